"""The server as a process: swaps, signals, and flags that cannot be used."""

import json
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from serving.server.__main__ import main
from serving.server.grpc_server import GrpcServer
from tests.serving.stubs import connect, predict_request, refusal, status_of
from tfrs_mmse.cli import CommandError


def wait_until(holds: Callable[[], bool]) -> None:
    for _ in range(600):
        if holds():
            return
        time.sleep(0.1)
    raise AssertionError("waited for a minute")


def test_the_server_drains_on_sigterm_and_says_what_it_did(
    exact_version: Path, start_server: Callable[..., Any]
) -> None:
    server = start_server(exact_version.parent, "--max_queue_milliseconds", "60000")
    with grpc.insecure_channel(server.target) as channel:
        stubs = connect(channel)
        stubs.prediction.Predict(predict_request(query=["hat"]), timeout=20)
        refusal(stubs.prediction.Predict, predict_request(query=[""]))
        calls = [
            stubs.prediction.Predict.future(
                predict_request(query=["hat"] * 1000), timeout=60
            )
            for _ in range(20)
        ]
        calls[0].result()
        server.process.send_signal(signal.SIGTERM)
        codes = {call.code() for call in calls}
    out, _ = server.process.communicate(timeout=60)
    assert server.process.returncode == 0
    assert codes <= {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE}
    answered = sum(call.code() is grpc.StatusCode.OK for call in calls)
    assert json.loads(out) == {"requests": {"INVALID_ARGUMENT": 1, "OK": answered + 1}}
    assert not [line for line in server.lines if "Traceback" in line]


def test_a_newer_version_takes_over_and_a_broken_one_does_not(
    exact_version: Path,
    scann_version: Path,
    start_server: Callable[..., Any],
    tmp_path: Path,
) -> None:
    shutil.copytree(exact_version, tmp_path / "1")
    server = start_server(tmp_path, "--file_system_poll_wait_seconds", "0.1")
    assert server.lines[-1] == f"serving shop version 1 on {server.target}"
    stop, failures = threading.Event(), []
    with grpc.insecure_channel(server.target) as channel:
        stubs = connect(channel)

        def ask() -> None:
            while not stop.is_set():
                try:
                    reply = stubs.prediction.Predict(
                        predict_request(query=["red hat"]), timeout=20
                    )
                    assert reply.outputs["item_id"].string_val[0] == b"i1"
                except (grpc.RpcError, AssertionError) as e:
                    failures.append(e)

        asking = [threading.Thread(target=ask) for _ in range(2)]
        for thread in asking:
            thread.start()
        shutil.copytree(scann_version, tmp_path / ".tmp-2")
        (tmp_path / ".tmp-2").rename(tmp_path / "2")
        # AVAILABLE, END.
        wait_until(lambda: status_of(stubs) == {2: (30, ""), 1: (50, "")})
        (tmp_path / "3").mkdir()
        wait_until(lambda: status_of(stubs).get(3, (0, ""))[0] == 50)
        _, message = status_of(stubs)[3]
        assert message == (
            f"expected a model version written by `python -m serving.export` in {tmp_path}/3, "
            "but there is no manifest.json"
        )
        assert status_of(stubs)[2] == (30, "")
        shutil.rmtree(tmp_path / "3")
        shutil.rmtree(tmp_path / "2")  # to roll back
        wait_until(lambda: status_of(stubs)[1] == (30, ""))
        stop.set()
        for thread in asking:
            thread.join()
    assert failures == []
    server.process.send_signal(signal.SIGINT)
    assert server.process.wait(timeout=60) == 0


def test_a_port_in_use_is_one_sentence(
    exact_version: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Ours are for a process of its own.
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        flags = [
            "--model_base_path",
            str(exact_version.parent),
            "--model_name",
            "shop",
            "--host",
            "127.0.0.1",
        ]
        assert main([*flags, "--port", str(port)]) == 1
    said = capsys.readouterr().err
    assert said.splitlines()[-1] == (
        f"error: cannot listen on 127.0.0.1:{port}: another program uses the port, or it may not be used; "
        "choose another --port (0 picks a free one)"
    )


def test_two_servers_do_not_share_a_port(served: Any) -> None:
    port = int(served.target.split(":")[1])
    with pytest.raises(CommandError, match=f"cannot listen on 127.0.0.1:{port}"):
        GrpcServer(served.models, served.metrics, host="127.0.0.1", port=port)


def test_a_base_path_without_a_version_is_one_sentence(
    exact_version: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    (tmp_path / ".tmp-1").mkdir()
    flags = ["--model_base_path", str(tmp_path), "--model_name", "shop", "--port", "0"]
    assert main(flags) == 1
    assert capsys.readouterr().err == (
        f"error: expected numeric version directories in {tmp_path}, found none: "
        "write one with `python -m serving.export --output` and this directory\n"
    )
    shutil.copytree(exact_version, tmp_path / "4")
    (tmp_path / "4" / "manifest.json").write_text('{"format_version": 99}')
    assert main(flags) == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"error: no version in {tmp_path} can be served; version 4: {tmp_path}/4/manifest.json is of format "
        "version 99, this program reads version 2: write it anew with this version of tfrs-mmse"
    )


def test_wrong_usage_exits_with_2() -> None:
    command = [
        sys.executable,
        "-m",
        "serving.server",
        "--model_base_path",
        "x",
        "--model_name",
        "y",
        "--port",
        "70000",
    ]
    finished = subprocess.run(
        command,
        cwd=Path(__file__).resolve().parents[3],
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 2
    assert finished.stderr.endswith(
        "argument --port: must be from 0 to 65535, got 70000\n"
    )
