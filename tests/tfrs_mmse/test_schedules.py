import pytest
import tensorflow as tf

from tfrs_mmse.schedules import linear_rise


def weight(step: int, *, share: float, num_steps: int = 100) -> float:
    return float(
        linear_rise(0.4, share=share, step=tf.constant(step), num_steps=num_steps)
    )


def test_a_weight_rises_during_its_share_of_the_training_and_stays() -> None:
    steps = [weight(step, share=0.5) for step in (0, 25, 50, 100)]
    assert steps == pytest.approx([0, 0.2, 0.4, 0.4])


def test_without_a_rise_or_a_training_the_weight_is_there_at_once() -> None:
    assert weight(0, share=0.0) == pytest.approx(0.4)
    assert weight(0, share=0.5, num_steps=0) == pytest.approx(0.4)
