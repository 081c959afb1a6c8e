"""ClipTokenizer by itself; tests/parity/test_tokenizer_live.py compares it with transformers."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from sdrt.errors import BundleError, RequestError
from sdrt.text.clip_tokenizer import ClipTokenizer
from support.clip_folder import BOS, EOS, SD1_CONFIG, clip_vocabulary, write_clip_folder, write_json

VOCAB, MERGES = clip_vocabulary()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_clip_folder(tmp_path / "tokenizer")


@pytest.fixture
def tokenizer(folder: Path) -> ClipTokenizer:
    return ClipTokenizer.open(folder)


def words_of(ids: np.ndarray) -> list[str]:
    """The tokens of a row without bos, eos and padding."""
    written = {index: token for token, index in VOCAB.items()}
    return [written[int(index)] for index in ids if written[int(index)] not in (BOS, EOS)]


def test_a_row_is_bos_words_eos_and_padding(tokenizer: ClipTokenizer) -> None:
    tokens = tokenizer.encode("a red circle")
    assert tokens.ids.shape == (77,) and tokens.ids.dtype == np.int64
    assert tokens.ids[0] == VOCAB[BOS]
    assert words_of(tokens.ids) == ["a</w>", "red</w>", "circle</w>"]
    assert (tokens.ids[4:] == VOCAB[EOS]).all()
    assert tokens.dropped == ""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        ("   \t\n ", []),
        ("A  RED\n\tcircle ", ["a</w>", "red</w>", "circle</w>"]),
        ("cafe\N{COMBINING ACUTE ACCENT}", ["cafÃ©</w>"]),  # composed, then spelled in bytes
        ("red,circle", ["red</w>", ",</w>", "circle</w>"]),
        ("we'll", ["we</w>", "'ll</w>"]),
        ("1024", ["1</w>", "0</w>", "2</w>", "4</w>"]),
    ],
)  # fmt: skip
def test_text_is_normalised_and_cut_as_clip_does(
    tokenizer: ClipTokenizer, text: str, words: list[str]
) -> None:
    joined = "".join(words_of(tokenizer.encode(text).ids))
    assert joined == "".join(words)


def test_tokens_name_what_was_cut_off(tokenizer: ClipTokenizer) -> None:
    tokens = tokenizer.encode("Red " * 75 + "a Blue Circle")
    assert tokens.dropped == "a Blue Circle"
    assert words_of(tokens.ids) == ["red</w>"] * 75
    assert tokens.ids[-1] == VOCAB[EOS]


def test_nothing_is_cut_off_a_prompt_that_just_fits(tokenizer: ClipTokenizer) -> None:
    assert tokenizer.encode("red " * 75).dropped == ""


def test_several_threads_may_share_one(tokenizer: ClipTokenizer) -> None:
    texts = [f"a red circle {number}" for number in range(64)]
    expected = [tokenizer.encode(text).ids for text in texts]
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda text: tokenizer.encode(text).ids, texts))
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize(
    ("length", "expected"),
    [(77, 77), (16, 16), (None, 77), (int(1e30), 77)],
)
def test_max_length_is_the_configs_or_77(tmp_path: Path, length: int | None, expected: int) -> None:
    config = dict(SD1_CONFIG) | {"model_max_length": length}
    tokenizer = ClipTokenizer.open(write_clip_folder(tmp_path, config))
    assert tokenizer.max_length == expected
    assert tokenizer.encode("red").ids.shape == (expected,)


@pytest.mark.parametrize("file", ["tokenizer_config.json", "special_tokens_map.json"])
def test_the_padding_token_is_the_configs(tmp_path: Path, file: str) -> None:
    write_clip_folder(tmp_path, {"model_max_length": 8})
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    extra = config if file == "tokenizer_config.json" else {}
    write_json(tmp_path / file, extra | {"pad_token": "!"})
    ids = ClipTokenizer.open(tmp_path).encode("red").ids
    assert ids[2] == VOCAB[EOS]
    assert (ids[3:] == VOCAB["!"]).all()


def test_tokenizer_json_alone_is_enough(folder: Path, tokenizer: ClipTokenizer) -> None:
    alone = folder.parent / "alone"
    alone.mkdir()
    shutil.copy(folder / "tokenizer_config.json", alone)
    tokenizer.backend.save(str(alone / "tokenizer.json"))
    for text in ("", "a red circle!", f"we'll {EOS} see"):
        np.testing.assert_array_equal(
            ClipTokenizer.open(alone).encode(text).ids, tokenizer.encode(text).ids
        )


def test_a_token_of_tokenizer_json_keeps_its_flags(folder: Path, tokenizer: ClipTokenizer) -> None:
    """transformers 5 saves folders where <|EndOfText|> is not a token."""
    saved = json.loads(tokenizer.backend.to_str())
    for token in saved["added_tokens"]:
        token["normalized"] = False
    write_json(folder / "tokenizer.json", saved)
    (folder / "vocab.json").unlink()

    got = ClipTokenizer.open(folder)

    assert words_of(tokenizer.encode("a <|EndOfText|>").ids) == ["a</w>"]
    assert len(words_of(got.encode("a <|EndOfText|>").ids)) > 3
    assert words_of(got.encode(f"a {EOS}").ids) == ["a</w>"]


def test_configuration_files_may_be_missing(folder: Path, tokenizer: ClipTokenizer) -> None:
    (folder / "tokenizer_config.json").unlink()
    np.testing.assert_array_equal(
        ClipTokenizer.open(folder).encode("a red circle!").ids,
        tokenizer.encode("a red circle!").ids,
    )


def test_half_a_surrogate_pair_is_refused(tokenizer: ClipTokenizer) -> None:
    with pytest.raises(
        RequestError, match=r"prompt: got 'red \\udc80', which cannot be encoded as UTF-8"
    ):
        tokenizer.encode("red \udc80")


def without(*tokens: str) -> str:
    return json.dumps({token: index for token, index in VOCAB.items() if token not in tokens})


LAST = MERGES[-1].replace(" ", "")
CAT_IS_7 = '{"added_tokens_decoder": {"7": {"content": "<cat>"}}}'
BROKEN = [
    ("vocab.json", None, "vocab.json cannot be read: No such file"),
    ("vocab.json", "{", "vocab.json cannot be read: not valid JSON"),
    ("vocab.json", "[]", "vocab.json cannot be read: got .., expected an obj"),
    ("vocab.json", without(EOS), "has no '<|endoftext|>'"),
    ("vocab.json", without(BOS), "has no '<|startoftext|>'"),
    ("vocab.json", without(LAST), f"line {len(MERGES) + 1}: .* make a third"),
    ("vocab.json", json.dumps({**VOCAB, "r": "one"}), "vocab.json is not a vocabulary"),
    ("merges.txt", None, "merges.txt cannot be read: .* No such file"),
    ("merges.txt", f"#version\n{MERGES[0]}\nred\n", "line 3: 'red' is not two"),
    ("merges.txt", "#version: 0.2\nr e d\n", "line 2: 'r e d' is not two tokens"),
    ("tokenizer_config.json", "{", "tokenizer_config.json cannot be read"),
    ("tokenizer_config.json", '{"model_max_length": 2}', "is 2, expected at least 3"),
    ("tokenizer_config.json", '{"model_max_length": "long"}', "is not CLIP's: .*'long'"),
    ("tokenizer_config.json", '{"padding_side": "top"}', "padding_side is 'top'"),
    ("tokenizer_config.json", '{"pad_token": {}}', "no 'content' in a token"),
    ("tokenizer_config.json", '{"pad_token": 3}', "is not CLIP's"),
    ("tokenizer_config.json", '{"pad_token": ""}', "pad_token is empty"),
    ("tokenizer_config.json", '{"added_tokens_decoder": []}', "is not CLIP's"),
    ("tokenizer_config.json", CAT_IS_7, "'<cat>' is token [0-9]+ by the vocabulary and 7 by"),
    ("tokenizer_config.json", "[" * 100_000, "cannot be read: not valid JSON"),
    ("tokenizer_config.json", '{"model_max_length": 1e400}', "cannot convert float infinity"),
    ("tokenizer_config.json", '{"pad_token": "a", "pad_token": "b"}', "'pad_token' is there twice"),
    ("tokenizer_config.json", '{"added_tokens_decoder": {"0": {"content": 3}}}', "content: got 3,"),
    ("special_tokens_map.json", "null", "special_tokens_map.json cannot be read: got null"),
]  # fmt: skip


@pytest.mark.parametrize(("file", "content", "message"), BROKEN)
def test_broken_files_are_named(folder: Path, file: str, content: str | None, message: str) -> None:
    (folder / file).unlink(missing_ok=True)
    if content is not None:
        (folder / file).write_text(content, encoding="utf-8")
    with pytest.raises(BundleError, match=message.replace("|", r"\|")) as caught:
        ClipTokenizer.open(folder)
    assert str(folder) in str(caught.value) and "opy" in str(caught.value)


def test_files_that_are_not_text_are_named(folder: Path) -> None:
    (folder / "merges.txt").write_bytes(b"#version\n\xff\xfe r\n")
    with pytest.raises(BundleError, match=r"merges.txt cannot be read: 'utf-8'"):
        ClipTokenizer.open(folder)


def test_a_broken_tokenizer_json_is_named(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(BundleError, match=r"tokenizer.json is not a saved tokenizer"):
        ClipTokenizer.open(tmp_path)


def test_a_regular_expression_that_takes_forever_is_an_error(
    folder: Path, tokenizer: ClipTokenizer
) -> None:
    saved = json.loads(tokenizer.backend.to_str())
    saved["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = "(a+)+$"
    write_json(folder / "tokenizer.json", saved)
    (folder / "vocab.json").unlink()
    with pytest.raises(BundleError, match="fails on the prompt: Onig: Regex search error"):
        ClipTokenizer.open(folder).encode(f"{'a' * 40}b")


def test_an_empty_folder_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"vocab.json cannot be read"):
        ClipTokenizer.open(tmp_path / "nothing")


def test_a_special_token_that_is_not_a_text_is_reported(tmp_path: Path) -> None:
    write_clip_folder(tmp_path, dict(SD1_CONFIG) | {"bos_token": "\ud800"})
    with pytest.raises(BundleError):
        ClipTokenizer.open(tmp_path)


# --- embeddings: tokens that stand for several vectors

FIRST = len(VOCAB)  # the first id after the vocabulary
BAD = [FIRST, FIRST + 1, FIRST + 2, FIRST + 3]  # bad_quality and its further vectors
STYLE = FIRST + 4
EMBEDDED = {"bad_quality": BAD[0], "Style v1.5:x": STYLE} | {
    f"bad_quality_{number}": BAD[number] for number in (1, 2, 3)
}


def with_embeddings(folder: Path, **config: object) -> ClipTokenizer:
    write_clip_folder(folder, {**SD1_CONFIG, **config})
    write_json(folder / "added_tokens.json", EMBEDDED)
    return ClipTokenizer.open(folder)


@pytest.fixture
def embedded(tmp_path: Path) -> ClipTokenizer:
    return with_embeddings(tmp_path / "embedded")


def ids_of(word: str) -> list[int]:
    return [VOCAB[f"{word}</w>"]]


RED, COMMA = ids_of("red"), ids_of(",")


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("bad_quality", BAD),
        ("bad_quality, red", [*BAD, *COMMA, *RED]),
        ("red bad_quality red", [*RED, *BAD, *RED]),
        ("redbad_qualityred", [*RED, *BAD, *RED]),
        ("bad_quality bad_quality", [*BAD, *BAD]),
        ("bad_qualitybad_quality", [*BAD, *BAD]),
        ("bad_quality bad_quality_1", [*BAD, BAD[1]]),  # diffusers breaks the latter up
        ("bad_quality_2", [BAD[2]]),
        ("BAD_Quality", BAD),
        ("red style  V1.5:X,", [*RED, STYLE, *COMMA]),
        ("", []),
    ],
)
def test_each_occurrence_of_an_embedding_becomes_all_of_its_ids(
    text: str, ids: list[int], embedded: ClipTokenizer
) -> None:
    tokens = embedded.encode(text)
    padding = [VOCAB[EOS]] * (76 - len(ids))
    np.testing.assert_array_equal(tokens.ids, [VOCAB[BOS], *ids, *padding])
    assert tokens.dropped == ""


@pytest.mark.parametrize(
    ("num_words", "kept", "dropped"),
    [(71, BAD, ""), (73, BAD[:2], "bad_quality"), (75, [], "bad_quality"), (76, [], "red bad_qu")],
)
def test_a_cut_embedding_is_reported(
    num_words: int, kept: list[int], dropped: str, embedded: ClipTokenizer
) -> None:
    tokens = embedded.encode("red " * num_words + "bad_quality")
    words = RED * min(num_words, 75)
    np.testing.assert_array_equal(tokens.ids, [VOCAB[BOS], *words, *kept, VOCAB[EOS]])
    assert tokens.dropped.startswith(dropped)
    assert bool(tokens.dropped) == bool(dropped)


def test_a_prompt_may_be_cut_on_the_left(tmp_path: Path) -> None:
    left = with_embeddings(tmp_path / "left", truncation_side="left")
    tokens = left.encode("bad_quality" + " red" * 73)
    np.testing.assert_array_equal(tokens.ids, [VOCAB[BOS], *BAD[2:], *RED * 73, VOCAB[EOS]])
    assert tokens.dropped == "bad_quality"


@pytest.mark.parametrize("side", ["left", "right"])
def test_other_prompts_are_tokenized_as_without_embeddings(side: str, tmp_path: Path) -> None:
    config: dict[str, object] = {"truncation_side": side, "padding_side": side}
    plain = ClipTokenizer.open(write_clip_folder(tmp_path / "plain", {**SD1_CONFIG, **config}))
    embedded = with_embeddings(tmp_path / "embedded", **config)
    assert embedded.vectors and not plain.vectors
    for text in ("", "a red circle", "Red " * 75 + "a Blue Circle", "<|endoftext|> café", "bad qu"):
        expected, got = plain.encode(text), embedded.encode(text)
        np.testing.assert_array_equal(got.ids, expected.ids)
        assert got.ids.dtype == np.int64
        assert got.dropped == expected.dropped
