"""The command, on a real server."""

import json
import socket
from typing import Any

import pytest

from serving.client import SearchClient
from serving.client.__main__ import main, table


def test_the_table_lines_up_wide_letters() -> None:
    hits = [
        {"rank": 1, "score": 0.5, "item_id": "茶1", "title": "Green\ttea"},
        {"rank": 10, "score": -0.25, "item_id": "i1234567", "title": None},
    ]
    assert table({"query": "tea", "hits": hits}).splitlines() == [
        "tea",
        "rank   score  item_id   title",
        "   1  0.5000  茶1       Green tea",
        "  10  -0.2500  i1234567",
    ]
    assert table({"query": "tea", "hits": []}) == "tea\nno items"


def test_a_person_gets_a_table_with_titles(
    served: Any, tmp_path: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "items.jsonl").write_text(
        '{"item_id": "i0", "title": "Red shoe"}\n{"item_id": "i1", "title": "Hat"}\n'
    )
    flags = [
        "--target",
        served.target,
        "--model",
        "shop",
        "--k",
        "2",
        "--items",
        str(tmp_path / "items.jsonl"),
    ]
    assert main([*flags, "--query", "red shoe", "--query", "lime desk"]) == 0
    first, second = capsys.readouterr().out.split("\n\n")
    lines = first.splitlines()
    assert lines[:2] == ["red shoe", "rank   score  item_id  title"]
    assert lines[2] == "   1  1.0000  i0       Red shoe"
    assert len(lines) == 4
    assert second.splitlines()[2] == "   1  1.0000  i99"


def test_a_program_gets_json(served: Any, capsys: pytest.CaptureFixture[str]) -> None:
    flags = [
        "--target",
        served.target,
        "--model",
        "shop",
        "--query",
        "red shoe",
        "--exclude",
        "i0",
        "--json",
    ]
    assert main([*flags, "--k", "3"]) == 0
    [result] = json.loads(capsys.readouterr().out)
    assert result["query"] == "red shoe"
    assert [hit["rank"] for hit in result["hits"]] == [1, 2, 3]
    assert "i0" not in {hit["item_id"] for hit in result["hits"]}
    assert result["hits"][0].keys() == {"rank", "score", "item_id"}
    assert result["version"] == served.models.versions()["shop"][0]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (
            ["--query", ""],
            "refused the request: query must hold at least one letter or digit (INVALID_ARGUMENT)",
        ),
        (
            ["--query", "😀"],
            "refused the request: query must hold at least one letter or digit (INVALID_ARGUMENT)",
        ),
        (
            ["--query", "a" * 10_000],
            "refused the request: query must be at most 1024 bytes long (INVALID_ARGUMENT)",
        ),
        (
            ["--query", "\udcff"],
            "refused the request: the text is not valid UTF-8 (INVALID_ARGUMENT)",
        ),
        (["--query", "hat", "--k", "1001"], "k must be from 1 to 1000"),
        (
            ["--query", "hat", "--model", "other"],
            "Servable not found for request: Latest(other)",
        ),
        (
            ["--query", "hat", "--model-version", "99"],
            "Servable not found for request: Specific(shop, 99)",
        ),
        (
            ["--query", "hat", "--model-version", "canary"],
            "Unrecognized servable version label: canary",
        ),
        (
            ["--query", "hat", "--items", "/no/such/file"],
            "--items: there is no file /no/such/file",
        ),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_status_1(
    served: Any, capsys: pytest.CaptureFixture[str], flags: list[str], message: str
) -> None:
    assert main(["--target", served.target, "--model", "shop", "--k", "5", *flags]) == 1
    said = capsys.readouterr()
    assert said.err.startswith("error: ")
    assert message in said.err
    assert said.err.count("\n") == 1
    assert said.out == ""


def test_an_unreachable_target_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    assert (
        main(
            [
                "--target",
                f"127.0.0.1:{port}",
                "--model",
                "shop",
                "--query",
                "hat",
                "--timeout",
                "3",
            ]
        )
        == 1
    )
    assert f"error: no server answers at 127.0.0.1:{port} (" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--k", "0"], "--k: expected a whole number of at least 1, got '0'"),
        (["--timeout", "inf"], "must be a positive number of seconds"),
    ],
)
def test_wrong_usage_exits_with_2(
    flags: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--target", "h:1", "--model", "m", "--query", "q", *flags])
    assert caught.value.code == 2
    assert message in capsys.readouterr().err


def test_the_class_can_be_used_without_the_command(served: Any) -> None:
    with SearchClient(served.target, "shop", timeout=20) as client:
        reply = client.search(["red shoe", "teal sofa"], 1)
    [[hit], [other]] = [result.hits for result in reply.results]
    assert (hit.item_id, other.item_id) == ("i0", "i87")
    assert hit.score == pytest.approx(1.0)
