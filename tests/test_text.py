"""redact and sentences: the same result for every way to cut the text, held no longer than needed, nothing lost."""

# ruff: noqa: E501, RUF001, SIM905 - the tables read best in one line, the punctuation of other scripts is meant
from __future__ import annotations

import random
import re
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamlib.streams import collect, collect_text, run
from streamlib.text import redact, sentences

from .stream_helpers import chunkings, cut, stream_of

# ---- redact: the same filter on the whole text, written another way ------------------------------


def naive(
    text: str, phrases: Iterable[str], mask: str, ignore_case: bool = False, whole_words: bool = False
) -> str:
    """From left to right, at each place the longest phrase that begins there. A plain loop: the definition."""

    def same(a: str, b: str) -> bool:
        def fold(letter: str) -> str:
            folded = letter.casefold()
            return folded if len(folded) == 1 else letter

        return a == b or (
            ignore_case and len(a) == len(b) and all(fold(x) == fold(y) for x, y in zip(a, b, strict=True))
        )

    def is_word(at: int) -> bool:
        return 0 <= at < len(text) and re.match(r"\w", text[at]) is not None

    out, at = [], 0
    while at < len(text):
        for phrase in sorted(phrases, key=len, reverse=True):
            end = at + len(phrase)
            touches = whole_words and (is_word(at - 1) or is_word(end))
            if same(text[at:end], phrase) and not touches:
                out.append(mask)
                at = end
                break
        else:
            out.append(text[at])
            at += 1
    return "".join(out)


def redacted(chunks: list[str], *args: Any, **options: Any) -> list[str]:
    return run(collect(redact(*args, **options)(stream_of(chunks))))


PHRASES = ["secret", "secret plan", "top", "password", "no"]


def planted(seed: int, count: int = 300) -> str:
    """Prose with `count` forbidden phrases, and twice as many that are nearly forbidden."""
    chance = random.Random(seed)
    words = "the model writes one token after another and a stage looks at each of them ".split()
    near = ["secre", "secret pla", "to", "passwor", "pass word", "secret-plan", "n o", "ssecre t"]
    pieces = PHRASES * (count // len(PHRASES)) + [chance.choice(near) for _ in range(2 * count)]
    pieces += [chance.choice(words) for _ in range(8000)]
    chance.shuffle(pieces)
    return "".join(piece + chance.choice([" ", " ", "", ", ", "\n"]) for piece in pieces)


@pytest.mark.parametrize("sizes", [1, (1, 8), 20, 200], ids=str)
@pytest.mark.parametrize("whole_words", [False, True], ids=["anywhere", "whole-words"])
def test_three_hundred_planted_phrases_none_leaks(sizes: int | tuple[int, int], whole_words: bool) -> None:
    text = planted(seed=1)
    out = "".join(redacted(cut(text, sizes), PHRASES, "█", whole_words=whole_words))
    assert out == naive(text, PHRASES, "█", whole_words=whole_words)
    edge = r"\b" if whole_words else ""
    assert not re.search(edge + "(?:" + "|".join(PHRASES) + ")" + edge, out)
    assert out.count("█") >= (100 if whole_words else 300)


phrase_lists = st.lists(st.text("abA ß.", min_size=1, max_size=4), max_size=4)


@given(chunkings(st.text("abAB ßſ.İΣςσ", max_size=30)), phrase_lists, st.booleans(), st.booleans())
def test_for_every_text_phrases_and_chunking_the_output_is_that_of_the_whole_text(
    chunks: list[str], phrases: list[str], ignore_case: bool, whole_words: bool
) -> None:
    options = {"ignore_case": ignore_case, "whole_words": whole_words}
    out = "".join(redacted(chunks, phrases, "#", **options))
    assert out == naive("".join(chunks), phrases, "#", **options)


@given(st.text("ab", max_size=30), st.lists(st.text("ab", min_size=3, max_size=3), min_size=1, max_size=3))
def test_held_back_is_only_the_longest_end_that_begins_a_phrase(text: str, phrases: list[str]) -> None:
    """Phrases and mask are of one length, so the length of the output says how much was held."""
    given_out = 0
    for fed in range(len(text) + 1):
        if fed:
            fresh = redacted_until(text[:fed], phrases)
            given_out = len(fresh)
        free = text[:fed]
        after_last_hit = 0
        while True:
            hits = [at for at in range(after_last_hit, len(free) - 2) if free[at : at + 3] in phrases]
            if not hits:
                break
            after_last_hit = hits[0] + 3
        ends = [free[at:] for at in range(after_last_hit, len(free))]
        held = max(
            (len(end) for end in ends if any(p.startswith(end) and p != end for p in phrases)), default=0
        )
        assert given_out == fed - held


def redacted_until(text: str, phrases: list[str]) -> str:
    """What has come out when all of `text` went in, one character at a time, and more may follow."""

    async def main() -> str:
        out: list[str] = []
        fed = []

        async def source() -> Any:
            for letter in text:
                yield letter
            fed.append("".join(out))

        async for piece in redact(phrases, "###")(source()):
            out.append(piece)
        return fed[0]

    return run(main())


CASES: list[tuple[str, list[str], list[str], dict[str, Any], list[str]]] = [
    ("nothing to hide passes as it came", ["a ", "b ", "c"], ["x"], {}, ["a ", "b ", "c"]),
    ("a phrase over three chunks", ["the s", "ecr", "et."], ["secret"], {}, ["the ", "***."]),
    ("a beginning that comes to nothing", ["s", "e", "a"], ["secret"], {}, ["sea"]),
    ("a beginning at the end is not lost", ["the sec"], ["secret"], {}, ["the ", "sec"]),
    ("the longest of two phrases", ["top sec", "ret"], ["top", "top secret"], {}, ["***"]),
    ("the shorter one if the longer fails", ["top sea"], ["top", "top secret"], {}, ["*** sea"]),
    ("the shorter one at the end", ["top se"], ["top", "top secret"], {}, ["*** se"]),
    ("one inside a longer one that fails", ["abcx"], ["abcd", "bc"], {}, ["a***x"]),
    ("hits side by side", ["nono no"], ["no"], {}, ["****** ***"]),
    ("overlapping hits: the left one", ["aba", "ba"], ["aba"], {}, ["***", "b", "a"]),
    ("case counts by default", ["Foo foo"], ["foo"], {}, ["Foo ***"]),
    ("ignore case", ["FO", "o Foo"], ["foo"], {"ignore_case": True}, ["*** ***"]),
    ("case in the phrase is ignored too", ["foo"], ["FOO"], {"ignore_case": True}, ["***"]),
    ("letters that grow when folded stay", ["İß SS"], ["ss"], {"ignore_case": True}, ["İß ***"]),
    (
        "whole words only",
        ["cat cats bobcat cat"],
        ["cat"],
        {"whole_words": True},
        ["*** cats bobcat ", "***"],
    ),
    (
        "a word waits for the next character",
        ["a cat", "s b"],
        ["cat"],
        {"whole_words": True},
        ["a ", "cats b"],
    ),
    (
        "the character before may be in another chunk",
        ["bob", "cat."],
        ["cat"],
        {"whole_words": True},
        ["bob", "cat."],
    ),
    ("no word begins inside a word", ["bobc", "at."], ["cat"], {"whole_words": True}, ["bobc", "at."]),
    ("an underscore is part of a word", ["cat_x cat-x"], ["cat"], {"whole_words": True}, ["cat_x ***-x"]),
    (
        "a phrase that ends in a sign",
        ["I like C", "++!"],
        ["C++"],
        {"whole_words": True},
        ["I like ", "***!"],
    ),
    ("signs of regular expressions are letters", ["a.b axb (x"], ["a.b", "(x"], {}, ["*** axb ***"]),
    ("no phrases", ["a", "b"], [], {}, ["a", "b"]),
    ("empty chunks", ["", "s", "", "x", ""], ["so"], {}, ["sx"]),
]


@pytest.mark.parametrize(
    ("chunks", "phrases", "options", "expected"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
def test_redact(chunks: list[str], phrases: list[str], options: dict[str, Any], expected: list[str]) -> None:
    assert redacted(chunks, phrases, **options) == expected


def test_the_mask_is_yours_and_may_be_empty() -> None:
    assert redacted(["a secret"], ["secret"], "[gone]") == ["a [gone]"]
    assert "".join(redacted(["a secret"], ["secret"], "")) == "a "


@pytest.mark.parametrize(
    ("blocklist", "error", "message"),
    [
        ("foo", TypeError, r"several phrases, as in redact\(\['foo'\]\), got 'foo'"),
        (3, TypeError, "several phrases"),
        (["a", ""], ValueError, "empty phrase"),
    ],
)
def test_redact_refuses_a_wrong_blocklist(blocklist: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        redact(blocklist)


@pytest.mark.parametrize("item", [None, ("a", 1), b"a"])
@pytest.mark.parametrize("stage", [redact(["x"]), sentences], ids=["redact", "sentences"])
def test_what_is_not_text_is_refused_in_words(stage: Any, item: Any) -> None:
    with pytest.raises(TypeError, match=f"works on a stream of str, got {type(item).__name__}"):
        run(collect(stage(stream_of([item]))))


# ---- sentences -----------------------------------------------------------------------------------

TEXTS: list[tuple[str, list[str]]] = [
    ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
    ("One.  Two.\nThree.\t", ["One.", "Two.", "Three."]),
    ("What?! Really?? No...", ["What?!", "Really??", "No..."]),
    ("lower case. it happens. ok", ["lower case.", "it happens.", "ok"]),
    # abbreviations and initials
    ("Dr. Smith met Mrs. Jones vs. Prof. Li.", ["Dr. Smith met Mrs. Jones vs. Prof. Li."]),
    ("Use a list, e.g. this one. Then, i.e. later, stop.", ["Use a list, e.g. this one.", "Then, i.e. later, stop."]),
    ("J. S. Bach wrote it. So do I. And you?", ["J. S. Bach wrote it.", "So do I.", "And you?"]),
    ("Cats, dogs, etc. are fine. Cats, dogs, etc. Fine.", ["Cats, dogs, etc. are fine.", "Cats, dogs, etc.", "Fine."]),
    ("See No. 5 and Fig. 3. No. It is not.", ["See No. 5 and Fig. 3.", "No.", "It is not."]),
    ("We met at 5 p.m. in Rome. We left at 6 p.m. Then rain.", ["We met at 5 p.m. in Rome.", "We left at 6 p.m.", "Then rain."]),
    ("The U.S. Army came.", ["The U.S. Army came."]),
    # numbers, versions, addresses, files
    ("Pi is 3.14. It costs $3.50. In 1984. Then v2.0.1 came.", ["Pi is 3.14.", "It costs $3.50.", "In 1984.", "Then v2.0.1 came."]),
    ("Go to https://a.example/x.html?q=1&r=2. Then to example.com. Or b.py!", ["Go to https://a.example/x.html?q=1&r=2.", "Then to example.com.", "Or b.py!"]),
    ("Write to ann.lee@example.org. She answers.", ["Write to ann.lee@example.org.", "She answers."]),
    # quotations, brackets, Markdown
    ('"Really?" he asked. "Yes!" Then he left.', ['"Really?" he asked.', '"Yes!"', "Then he left."]),
    ("“Stop.” (He did.) Good.", ["“Stop.”", "(He did.)", "Good."]),
    ("**Note.** Read `a.b`. _Done._ Ok", ["**Note.**", "Read `a.b`.", "_Done._", "Ok"]),
    ("Well… maybe. Well… No.", ["Well… maybe.", "Well…", "No."]),
    # lines
    ("A heading\n\nA text\nthat goes on. End", ["A heading", "A text\nthat goes on.", "End"]),
    ("Three things:\n- one\n- two\n* three", ["Three things:", "- one", "- two", "* three"]),
    ("Steps:\n1. Open it. Now.\n2. Close it.\n10) Done", ["Steps:", "1. Open it.", "Now.", "2. Close it.", "10) Done"]),
    ("Text\n## Heading\nmore", ["Text", "## Heading\nmore"]),
    ("a\r\n\r\nb", ["a", "b"]),
    # other scripts
    ("你好。今天天气很好！是吗？是", ["你好。", "今天天气很好！", "是吗？", "是"]),
    ("「はい。」と言った。彼は「うん。」そして帰った。", ["「はい。」と言った。", "彼は「うん。」", "そして帰った。"]),
    ("नमस्ते। आप कैसे हैं? ठीक।", ["नमस्ते।", "आप कैसे हैं?", "ठीक।"]),
    ("هل أنت هنا؟ نعم.", ["هل أنت هنا؟", "نعم."]),
    # nothing
    ("", []),
    (" \n\n \t", []),
    ("...", ["..."]),
]  # fmt: skip


def split(chunks: list[str]) -> list[str]:
    return run(collect(sentences(stream_of(chunks))))


@pytest.mark.parametrize(("text", "expected"), TEXTS, ids=[text[:20] for text, _ in TEXTS])
@pytest.mark.parametrize("size", [1, 3, 1000])
def test_sentences(text: str, expected: list[str], size: int) -> None:
    assert split(cut(text, size)) == expected


pieces_of_prose = st.lists(
    st.sampled_from(
        "One|Dr|e.g|etc|No|p.m|I|J|3|14|http://a.b/c|.|.|.|!|?|…|。|！|」|”|)|*|-|1.|#|a|b|A|と| | | |\n|\n\n|\r\n|\t".split(
            "|"
        )
    ),
    max_size=25,
).map("".join)


@given(chunkings(pieces_of_prose))
def test_for_every_chunking_the_sentences_are_the_same(chunks: list[str]) -> None:
    assert split(chunks) == split(["".join(chunks)])


@given(chunkings(st.one_of(pieces_of_prose, st.text(max_size=40))))
def test_nothing_but_white_space_around_sentences_is_lost(chunks: list[str]) -> None:
    text = "".join(chunks)
    out = split(chunks)
    assert "".join("".join(out).split()) == "".join(text.split())
    assert all(sentence == sentence.strip() and sentence for sentence in out)


GIVEN_AT_ONCE: list[tuple[list[str], int]] = [
    # chunks, and how many of them are needed for the first sentence
    (["One.", " ", "Two. "], 2),
    (["One. ", "Two. "], 1),
    (["你好。", "今", "天"], 2),
    (["Go to 3.", "14. ", "x"], 2),
    (["A heading\n", "\n", "x"], 2),
    (["He left at 5 p.m. ", "Then ", "x"], 2),
]


@pytest.mark.parametrize(("chunks", "needed"), GIVEN_AT_ONCE)
async def test_a_sentence_comes_as_soon_as_it_is_sure(chunks: list[str], needed: int) -> None:
    pulled = 0

    async def source() -> Any:
        nonlocal pulled
        for chunk in chunks:
            pulled += 1
            yield chunk

    stream = sentences(source())
    await anext(stream)
    assert pulled == needed
    await stream.aclose()


async def test_redact_then_sentences_gives_clean_whole_sentences() -> None:
    tokens = [*cut("The pass", 3), "word is tiger. Keep", " it. 'tiger", "!' ok"]
    text = await collect(sentences(redact(["password", "tiger"], "…")(stream_of(tokens))))
    assert text == ["The … is ….", "Keep it.", "'…!' ok"]


async def test_collected_text_of_a_redacted_stream() -> None:
    assert await collect_text(redact(["b"])(stream_of("abc"))) == "a***c"
