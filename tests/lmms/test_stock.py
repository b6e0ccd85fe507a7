"""lmms-eval's own tasks, end to end and offline, on look-alikes of their data."""

from __future__ import annotations

import os
import random
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import datasets
import pyarrow
import pyarrow.parquet as parquet
import pytest

from meteor_bench.core.errors import ConfigError, DataError
from meteor_bench.core.processing import Clip
from meteor_bench.data import suites
from meteor_bench.lmms import tasks as known
from meteor_bench.lmms.document import find
from meteor_bench.lmms.inputs import Inputs
from meteor_bench.lmms.requests import first, spread
from scripts.make_lookalikes import Lookalike, make
from tests.lmms.fakes import constant
from tests.lmms.lookalikes import STOCK, count_as, counts, saying, score

Made = Mapping[str, Lookalike]
FAST = ("pope", "mmmu_val", "videomme")
EACH = [pytest.param(task, marks=[] if task in FAST else pytest.mark.slow) for task in STOCK]
# By SCORE's points of 1000, whatever the number of questions.
FULL = {"ocrbench": 0.6}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("root")


@pytest.fixture(scope="module")
def made(root: Path) -> Made:
    return make(root)


@pytest.fixture(autouse=True)
def counted(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    count_as(monkeypatch, counts(made))


@pytest.mark.parametrize("task", EACH)
def test_right_answers_get_full_marks_and_wrong_ones_none(made: Made, root: Path, tmp_path: Path, task: str) -> None:
    right = score(saying(made[task].right), task, root, tmp_path / "right")
    assert right.headline == pytest.approx(FULL.get(task, 100))
    assert [sample["score"] for sample in right.samples] == [1.0] * len(made[task].right)
    assert all(value == 100 for value in right.families.values())
    wrong = score(saying(made[task].wrong), task, root, tmp_path / "wrong")
    assert wrong.headline == 0
    assert not any(sample["score"] for sample in wrong.samples)
    assert wrong.data_digest == right.data_digest


MALFORMED = ("yes.", "(B)", "", "B. two rivers because " + "so " * 3300)


@pytest.mark.slow
@pytest.mark.parametrize("task", STOCK)
def test_malformed_answers_score_as_lmms_eval_scores_them(made: Made, root: Path, tmp_path: Path, task: str) -> None:
    """Against `process_results` and the aggregation of the task itself, called here."""
    row, inputs = suites.benchmark(task), Inputs(root, frames=4)
    said = [MALFORMED[i % len(MALFORMED)] for i in range(len(made[task].right))]
    random.seed(0)  # MMMU and LongVideoBench draw an option where they read none
    result = score(saying(said), task, root, tmp_path)
    with known.opened(row, known.index([row]), inputs) as object_:
        docs = list(object_.eval_docs)
        metric, _, filtered = row.metric.partition(",")
        answers = [sample["answer"] for sample in result.samples]
        collected = [object_.process_results(doc, [answer]) for doc, answer in zip(docs, answers, strict=True)]
    plain = [one[metric] for one in collected if metric in one]
    if isinstance(plain[0], int | float):
        assert result.headline == pytest.approx(100 * sum(plain) / len(plain))
        assert [sample["score"] for sample in result.samples] == pytest.approx(plain)
    elif "score" in plain[0] and task != "mme":
        assert [sample["score"] for sample in result.samples] == [one["score"] for one in plain]
    assert 0 <= result.headline <= 100 and all(0 <= sample["score"] <= 1 for sample in result.samples)
    # Nothing but the first filter of a task comes between what was said and what is scored.
    assert filtered in ("none", "flexible-extract")
    if filtered == "none":
        assert [str(answer).strip() for answer in answers] == [text.strip() for text in said]


def by_hand(made: Made, root: Path, folder: Path, task: str, text: str) -> list[float]:
    return [sample["score"] for sample in score(constant(text), task, root, folder).samples]


@pytest.mark.slow
def test_scores_of_malformed_answers_by_hand(made: Made, root: Path, tmp_path: Path) -> None:
    assert by_hand(made, root, tmp_path / "1", "pope", "yes.") == [0] * 6
    assert by_hand(made, root, tmp_path / "2", "pope", " YES") == [0, 1] * 3
    assert by_hand(made, root, tmp_path / "3", "videomme", "(B)") == [0, 1, 0, 0, 0, 1]
    assert by_hand(made, root, tmp_path / "4", "videomme", "") == [0] * 6
    assert by_hand(made, root, tmp_path / "5", "mmmu_val", "(B)") == [0, 1, 0, 0]


def test_sub_scores(made: Made, root: Path, tmp_path: Path) -> None:
    pope = score(constant("yes"), "pope", root, tmp_path / "pope")
    assert pope.metrics["pope_accuracy,none"] == 0.5 and pope.metrics["pope_recall,none"] == 1
    assert pope.metrics["pope_f1_score,none"] == pytest.approx(2 / 3) and pope.metrics["pope_yes_ratio,none"] == 0.5
    assert set(pope.families) == {"adversarial", "popular", "random"}
    # Two of six are a yes to POPE, and of the truths every other one is.
    said = score(saying(["yes", " YES", "yes.", "no", "", "yes it is"]), "pope", root, tmp_path / "said")
    assert said.metrics["pope_yes_ratio_of_answers,none"] == 2 / 6 and said.metrics["pope_yes_ratio,none"] == 0.5
    video = score(saying(["A", "B", "A", "A", "A", "A"]), "videomme", root, tmp_path / "video")
    assert video.families == {"short": 100, "medium": 0, "long": 50} and video.headline == pytest.approx(50)
    subjects = score(saying(made["mmmu_val"].right), "mmmu_val", root, tmp_path / "mmmu")
    assert set(subjects.families) == {"Accounting", "Art_Theory", "Biology", "History"}


@pytest.mark.slow
def test_mme_counts_pairs_and_mmbench_rotations(made: Made, root: Path, tmp_path: Path) -> None:
    right = list(made["mme"].right)
    half = score(saying(["Yes"] * len(right)), "mme", root, tmp_path / "mme")
    # One of two questions everywhere: 50 of the 100 points for answers, none of the 100 for pairs.
    assert half.metrics["mme_perception_score,none"] == 500 and half.metrics["mme_cognition_score,none"] == 200
    assert half.headline == 25 and sum(s["score"] for s in half.samples) == len(right) / 2
    said = [*made["mmbench_en_dev_static"].right[:3], made["mmbench_en_dev_static"].wrong[3]]
    turned = score(saying(said), "mmbench_en_dev_static", root, tmp_path / "mmbench")
    # The first question is wrong in one of its rotations.
    assert turned.headline == pytest.approx(200 / 3) and [s["score"] for s in turned.samples] == [1, 1, 1, 0]


def test_a_video_is_decoded_once_and_comes_with_its_rate(made: Made, root: Path, tmp_path: Path) -> None:
    session = saying(made["videomme"].right)
    result = score(session, "videomme", root, tmp_path)
    assert len(session.pictures) == 2 and len({s["media_key"] for s in result.samples}) == 2
    for clip in session.pictures.values():
        assert isinstance(clip, Clip) and len(clip) == 4
        assert clip.fps == pytest.approx(3 / (7 / 8), rel=0.01)  # four frames from the first to the last of 8 at 8 fps


@pytest.mark.slow
def test_several_pictures_are_no_clip(made: Made, root: Path, tmp_path: Path) -> None:
    session = saying(made["mmmu_val"].right)
    score(session, "mmmu_val", root, tmp_path)
    assert sorted(len(pictures) for pictures in session.pictures.values()) == [1, 7]
    assert not any(isinstance(pictures, Clip) for pictures in session.pictures.values())


def question(root: Path, folder: Path) -> str:
    return str(score(constant("yes"), "pope", root, folder).samples[0]["question"])


def test_two_roots_never_mix_and_a_changed_one_is_read_again(made: Made, root: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(root / "lmms-lab-encoder" / "POPE", other / "lmms-lab-encoder" / "POPE")
    first = question(root, tmp_path / "1")
    (file,) = (other / "lmms-lab-encoder" / "POPE").rglob("*.parquet")
    for text in ("Is there a second root?", "Is there another row?"):
        table = parquet.read_table(file)
        asked = [text, *table["question"].to_pylist()[1:]]
        at = table.schema.get_field_index("question")
        parquet.write_table(table.set_column(at, table.schema.field(at), [asked]), file)
        assert question(other, tmp_path / text).startswith(text)
    assert question(root, tmp_path / "2") == first


@pytest.mark.slow
def test_the_surroundings_are_as_before(made: Made, root: Path, tmp_path: Path) -> None:
    before = Path.cwd(), dict(os.environ), datasets.config.HF_DATASETS_CACHE
    score(constant("yes"), "pope", root, tmp_path)
    assert (Path.cwd(), dict(os.environ), datasets.config.HF_DATASETS_CACHE) == before
    assert not list(root.rglob("*.arrow")) and not list(root.rglob("*.lock"))


@pytest.mark.slow
def test_a_document_alone_is_scored_as_in_the_run(made: Made, root: Path) -> None:
    session: Any = constant("")
    for task in ("pope", "mmmu_val", "videomme"):
        for i in (0, 1):
            document = find(f"{task}/{i}", session, Inputs(root, frames=4))
            assert document.score(made[task].right[i]).score == 1
            assert document.score(made[task].wrong[i]).score == 0


def test_without_a_root_it_says_what_to_give(made: Made, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="pope needs lmms-lab-encoder/POPE of the hub; give --data-root DIR"):
        score(constant("yes"), "pope", None, tmp_path)  # type: ignore[arg-type]


@pytest.fixture
def pope(root: Path, made: Made, tmp_path: Path) -> Path:
    """A root of the test's own."""
    shutil.copytree(root / "lmms-lab-encoder" / "POPE", tmp_path / "own" / "lmms-lab-encoder" / "POPE")
    return tmp_path / "own"


def parquet_of(root: Path) -> Path:
    (file,) = root.rglob("*.parquet")
    return file


def damage(root: Path, *numbers: int) -> None:
    """Let rows of a data set hold what is no picture."""
    file = parquet_of(root)
    table = parquet.read_table(file)
    at = table.schema.get_field_index("image")
    images = table["image"].to_pylist()
    for number in numbers:
        images[number] = {"bytes": b"no picture", "path": None}
    broken = pyarrow.array(images, table.schema.field(at).type)
    parquet.write_table(table.set_column(at, table.schema.field(at), broken), file)


UNREADABLE = (
    r"its picture cannot be read \(of no known format\); fetch lmms-lab-encoder/POPE again: "
    r"meteor-bench data fetch --task pope --root [^,]*"
)


def test_a_broken_picture_names_its_row_or_is_skipped(pope: Path, tmp_path: Path) -> None:
    """Found when it is decoded; the rows that share it fail together."""
    damage(pope, 3, 5)
    session = constant("yes")
    with pytest.raises(DataError, match=f"^pope: row [35]: {UNREADABLE}, or give --skip-broken$"):
        score(session, "pope", pope, tmp_path / "strict")
    result = score(session, "pope", pope, tmp_path / "lenient", skip_broken=True)
    assert [sample["score"] for sample in result.samples] == [0, 1, 0, 0, 0, 0]
    for failed in (result.samples[3], result.samples[5]):
        assert re.match(f"failed: pope: row [35]: {UNREADABLE}$", failed["notes"][0])
        assert failed["tokens"]["final"] == 0 and failed["tokens"].keys() == result.samples[0]["tokens"].keys()
    inputs = Inputs(pope, skip_broken=True)
    for asked in (first(session, ["pope"], 6, inputs), spread(session, ["pope"], 6, inputs)):  # type: ignore[arg-type]
        assert {r.key for r in asked} <= {"pope/0", "pope/1", "pope/2", "pope/4"} and len(asked) > 2


def test_a_broken_picture_that_lmms_eval_opens_by_itself_is_one_line(pope: Path, tmp_path: Path) -> None:
    damage(pope, 0)
    with pytest.raises(DataError, match=r"^pope: lmms-lab-encoder/POPE: a picture .*; fetch lmms-lab-encoder/POPE aga"):
        score(constant("yes"), "pope", pope, tmp_path / "strict")
    result = score(constant("yes"), "pope", pope, tmp_path / "lenient", skip_broken=True)
    assert result.samples[0]["score"] == 0 and result.samples[0]["notes"][0].startswith("failed: pope: row 0: ")


def test_a_filter_that_goes_through_the_documents_meets_no_broken_picture(
    root: Path, made: Made, tmp_path: Path
) -> None:
    shutil.copytree(root / "lmms-lab-encoder" / "ai2d", tmp_path / "own" / "lmms-lab-encoder" / "ai2d")
    damage(tmp_path / "own", 3)
    result = score(saying(made["ai2d"].right), "ai2d", tmp_path / "own", tmp_path, skip_broken=True)
    assert [sample["score"] for sample in result.samples] == [1, 1, 1, 0, 1, 1]


def test_a_missing_video_is_named_with_the_command_that_fetches_it(root: Path, made: Made, tmp_path: Path) -> None:
    own = tmp_path / "own"
    for folder in ("lmms-eval", "videomme"):
        shutil.copytree(root / folder, own / folder)
    video = own / "videomme" / "data" / "look00000000.mp4"
    video.unlink()
    fetch = f"fetch lmms-eval/Video-MME again: meteor-bench data fetch --task videomme --root {own}"
    says = re.escape(f"{video} is missing; {fetch}, or give --skip-broken")
    with pytest.raises(DataError, match=f"^videomme: row 0: {says}$"):
        score(constant("A"), "videomme", own, tmp_path)


@pytest.mark.slow
def test_a_broken_video_names_its_row_or_is_skipped(root: Path, made: Made, tmp_path: Path) -> None:
    own = tmp_path / "own"
    for folder in ("lmms-eval", "videomme"):
        shutil.copytree(root / folder, own / folder)
    for damage in (lambda f: f.write_bytes(b"no video"), lambda f: f.unlink()):
        damage(sorted((own / "videomme" / "data").iterdir())[0])
        say = saying(made["videomme"].right)
        with pytest.raises(DataError, match=r"videomme: row [0-2]: .*look0+.mp4.*; fetch .*, or give --skip-broken"):
            score(say, "videomme", own, tmp_path / "strict")
        result = score(say, "videomme", own, tmp_path / "lenient", skip_broken=True)
        assert [sample["score"] for sample in result.samples] == [0, 0, 0, 1, 1, 1]
        shutil.rmtree(tmp_path / "lenient")
