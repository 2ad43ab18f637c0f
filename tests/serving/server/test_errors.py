"""What callers read of TensorFlow's messages."""

import pytest

from serving.server.errors import MAX_MESSAGE, invalid, plain_message


@pytest.mark.parametrize(
    ("message", "plain"),
    [
        (
            "Graph execution error:\n\nDetected at node Assert defined at (most recent call last):\n"
            '  File "model.py", line 3, in call\n<stack traces unavailable>\n'
            "assertion failed: [query must hold a word] [Condition x == y did not hold:] [x (A:0) = ] [1 0]\n"
            "\t [[{{node Assert}}]] [Op:__inference_signature_wrapper_q_4]",
            "query must hold a word",
        ),
        (
            "Graph execution error:\n\nDetected at node UnicodeTranscode defined at (most recent call last):\n"
            "<stack traces unavailable>\nInvalid formatting on input string\n"
            "\t [[{{node UnicodeTranscode}}]] [Op:__inference_q_419]",
            "the text is not valid UTF-8",
        ),
        (
            "{{function_node __wrapped__MatMul}} Matrix size-incompatible [Op:MatMul]",
            "Matrix size-incompatible",
        ),
        ("", "the graph failed without a message"),
    ],
)
def test_only_the_sentence_is_left(message: str, plain: str) -> None:
    assert plain_message(message) == plain


def test_messages_are_cut_as_tensorflow_serving_cuts_them() -> None:
    assert len(invalid("x" * 5000).message) == MAX_MESSAGE == 1024
    assert invalid("x" * 1024).message == "x" * 1024
