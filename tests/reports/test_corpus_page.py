"""`write_corpus_page`: the page of a corpus, from the files of its description alone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from corpora import Corpus, Split, Utterance, describe_corpus
from reports import write_corpus_page

ReadPage = Callable[[Path], Any]
PICTURES = ("corpus_counts", "corpus_durations", "corpus_speakers")


def test_page_has_the_figures_of_the_terminal(corpus: Corpus, read_page: ReadPage, tmp_path: Path) -> None:
    described = describe_corpus(corpus, progress=False)
    described.save(tmp_path, "python prepare_data.py <&>")
    page = read_page(write_corpus_page(tmp_path, ["png", "svg"]))
    quantities = [shown for shown, _ in page.column("quantity", "quantity")]
    values = [shown for shown, _ in page.column("value", "quantity")]
    assert list(zip(quantities, values, strict=True)) == described.table
    assert page.column("utterances", "speaker") == [("10", "10")] * 4
    assert page.column("sessions", "speaker") == [("2", "2")] * 4
    minutes = [float(value) for _, value in page.column("minutes", "speaker")]
    assert abs(sum(minutes) / 60 - described.summary["hours"]) < 1e-9
    assert "python prepare_data.py <&>" in page.text
    assert "cannot be read" not in page.text
    written = {path.name for path in tmp_path.iterdir()}
    assert written == {"corpus.csv", "corpus.json", "corpus.html"} | {
        f"{name}.{form}" for name in PICTURES for form in ("png", "svg")
    }


def test_page_is_drawn_again_byte_for_byte(corpus: Corpus, tmp_path: Path) -> None:
    describe_corpus(corpus, progress=False).save(tmp_path)
    first = write_corpus_page(tmp_path).read_bytes()
    assert write_corpus_page(tmp_path).read_bytes() == first


def test_unreadable_files_and_splits_are_shown(
    corpus: Corpus, hostile: tuple[str, ...], read_page: ReadPage, tmp_path: Path
) -> None:
    splits: list[Split | None] = ["train", "test", None]
    utterances = [
        Utterance(each.path, f"{each.speaker} {name}", each.session, root=corpus.root, split=split)
        for each, name, split in zip(corpus, hostile * 40, splits * 40, strict=False)
    ]
    missing = Utterance(corpus.root / "none & <b>.wav", hostile[0], hostile[0], root=corpus.root)
    describe_corpus(Corpus((*utterances, missing), corpus.root, "calls"), progress=False).save(tmp_path)
    page = read_page(write_corpus_page(tmp_path))
    assert page.column("problem", "utterance") == [("no such file", None)]
    assert page.column("utterance", "utterance")[0][0] == "none & <b>.wav"
    assert "1 utterance cannot be read" in page.text
    assert "by the split that the corpus gives" in page.text


def test_a_corpus_of_which_nothing_can_be_read_has_a_page(corpus: Corpus, read_page: ReadPage, tmp_path: Path) -> None:
    missing = Utterance(tmp_path / "none.wav", "ann", "ann", root=tmp_path)
    describe_corpus(Corpus((missing,), tmp_path, "calls"), progress=False).save(tmp_path)
    assert "Durations" not in read_page(write_corpus_page(tmp_path)).text


def test_page_of_many_speakers_stays_small(read_page: ReadPage, tmp_path: Path) -> None:
    utterances = [
        Utterance(tmp_path / f"{number}.wav", f"speaker {number // 2}", "day", root=tmp_path) for number in range(3000)
    ]
    describe_corpus(Corpus(tuple(utterances), tmp_path, "calls"), progress=False).save(tmp_path)
    path = write_corpus_page(tmp_path)
    page = read_page(path)
    assert len(page.column("speaker", "speaker")) == len(page.column("problem", "utterance")) == 1000
    assert path.stat().st_size < 1_000_000
