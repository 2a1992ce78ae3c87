import json

import httpx2
import pytest

from streamlib.widgets.ask import Ask, Piece, piece_in, refusal, trouble, whole_text


def chunk(**choice: object) -> str:
    return json.dumps({"choices": [{"index": 0, **choice}]})


@pytest.mark.parametrize(
    ("data", "piece"),
    [
        (chunk(delta={"content": "Hi"}, finish_reason=None), Piece("Hi")),
        (chunk(delta={"content": "Hi"}), Piece("Hi")),
        (chunk(delta={"content": "Hi"}, finish_reason=""), Piece("Hi")),  # as some servers say "none"
        (chunk(delta={"role": "assistant", "content": ""}, finish_reason=None), Piece()),
        (chunk(delta={"content": None}, finish_reason=None), Piece()),
        (chunk(delta={}, finish_reason="stop"), Piece(is_end=True)),
        (chunk(delta={"content": "end"}, finish_reason="length"), Piece("end", is_end=True)),
        (chunk(delta={"reasoning_content": "hm"}, finish_reason=None), Piece()),
        ("[DONE]", Piece(is_end=True)),
        ('{"choices": [], "usage": {"completion_tokens": 3}}', Piece(tokens=3)),
        (
            '{"choices": [{"delta": {"content": "Hi"}}], "usage": {"completion_tokens": 3}}',
            Piece("Hi", tokens=3),
        ),
        ('{"choices": [{"delta": {"content": "Hi"}}], "usage": null}', Piece("Hi")),
        ('{"choices": [], "usage": null}', Piece()),
        ('{"error": {"message": "full"}}', Piece(error="The server sent an error: full")),
        ('{"error": "full"}', Piece(error="The server sent an error: full")),
        ('{"error": "no message"}', Piece(error="The server sent an error: no message")),
        ('{"choices": [{"del', Piece()),
        ("[1, 2]", Piece()),
        ("null", Piece()),
    ],
)
def test_piece_in_an_event(data: str, piece: Piece) -> None:
    assert piece_in(data) == piece


def test_whole_text() -> None:
    assert whole_text(b'{"choices": [{"message": {"content": "Hi"}}]}') == "Hi"
    assert whole_text(b'{"choices": [{"message": {"content": null}}]}') == ""


@pytest.mark.parametrize("data", [b"<html>", b"{}", b'{"choices": []}', b"[]", b"\xff"])
def test_what_is_no_completion_is_named(data: bytes) -> None:
    with pytest.raises(ValueError, match="not a chat completion"):
        whole_text(data)


@pytest.mark.parametrize(
    ("response", "sentence"),
    [
        (httpx2.Response(200, json={}), ""),
        (
            httpx2.Response(401, json={"error": {"message": "wrong key"}}),
            "The server answered 401: wrong key",
        ),
        (httpx2.Response(404, json={"error": "no such model"}), "The server answered 404: no such model"),
        (httpx2.Response(502, text="Bad Gateway"), "The server answered 502: Bad Gateway"),
        (httpx2.Response(500, json=[1]), "The server answered 500: [1]"),
    ],
)
async def test_refusal_says_what_the_server_said(response: httpx2.Response, sentence: str) -> None:
    assert await refusal(response) == sentence


def test_trouble_asks_whether_the_server_runs() -> None:
    assert "Is it running?" in trouble(httpx2.ConnectError("refused"))
    assert "ReadTimeout" in trouble(httpx2.ReadTimeout(""))


def test_no_server_is_said_before_anything_is_asked() -> None:
    with pytest.raises(ValueError, match=r"connect\(\)"):
        Ask("Hi", "m")


def test_key_does_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")
    assert "secret" not in repr(Ask("Hi", "m"))
    assert "secret" not in repr(Ask("Hi", "m", api_key="secret"))


async def test_environment_names_server_and_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://one.test/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "key")
    async with Ask("Hi", "m").client() as client:
        assert str(client.base_url) == "http://one.test/v1/"
        assert client.headers["Authorization"] == "Bearer key"
    async with Ask("Hi", "m", base_url="http://two.test/v1").client() as client:
        assert str(client.base_url) == "http://two.test/v1/"


def test_a_prompt_becomes_a_message_and_messages_stay() -> None:
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    assert Ask("Hi", "m", "http://x").body(stream=True)["messages"] == [{"role": "user", "content": "Hi"}]
    assert Ask(messages, "m", "http://x").body(stream=True)["messages"] == messages
