"""The HTML report without a browser: what it says, that every text is escaped, that nothing outside is needed."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from meteor_bench.config.run_config import RunConfig
from meteor_bench.core.errors import MeteorBenchError
from meteor_bench.report import render
from meteor_bench.report.html.build import chapters, write
from meteor_bench.report.html.chapter import Chapter
from meteor_bench.report.html.data import pareto
from meteor_bench.report.html.markup import Html, tag
from meteor_bench.report.html.page import AT_FIRST, at_first, colours, page
from meteor_bench.report.html.reported import laid_out, reported
from meteor_bench.report.runs import load
from meteor_bench.report.sections import sections
from tests import synthetic

ROOT = Path(__file__).parents[2]
EVIL = "</script><b onclick='x'>&amp;"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    synthetic.reference(folder)
    return folder


@pytest.fixture(scope="module")
def chapter(runs: Path) -> Chapter:
    (made,) = chapters(load(runs))
    return made


@pytest.fixture(scope="module")
def text(chapter: Chapter) -> str:
    return page([chapter])


class Tables(HTMLParser):
    """Tables as lists of rows of (text, data-v), and every element that was met."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tables: list[list[list[tuple[str, str | None]]]] = []
        self.met: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self._inside = False
        self.feed(text)

    def handle_starttag(self, name: str, attrs: list[tuple[str, str | None]]) -> None:
        self.met.append((name, dict(attrs)))
        if name == "table":
            self.tables.append([])
        elif name == "tr" and self.tables:
            self.tables[-1].append([])
        elif name in ("td", "th"):
            self.tables[-1][-1].append(("", dict(attrs).get("data-v")))
        self._inside = name in ("td", "th") or (self._inside and name in ("span", "button"))
        if name == "script":
            self.scripts.append("")

    def handle_endtag(self, name: str) -> None:
        self._inside = self._inside and name not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if self._inside:
            said, value = self.tables[-1][-1][-1]
            self.tables[-1][-1][-1] = (said + data, value)
        elif self.scripts and self.cdata_elem == "script":
            self.scripts[-1] += data


def packed(text: str, name: str) -> str:
    found = re.search(rf'<script id="{name}" type="text/plain">([A-Za-z0-9+/=]+)</script>', text)
    assert found
    return gzip.decompress(base64.b64decode(found[1])).decode()


def test_the_page_says_what_the_other_formats_say(text: str, runs: Path) -> None:
    """Against the JSON report: the same scores and medians, in the same order."""
    told = json.loads(render.document(load(runs)).render("json"))["tables"]
    accuracy, tokens, latency, _ = Tables(text).tables
    head = [said for said, _ in accuracy[0]]
    wanted = [row["score"] for row in told["accuracy"] if row["name"] == "average"]
    shown = [float(str(row[head.index("average")][1])) for row in accuracy[1:]]
    assert shown == pytest.approx(wanted, rel=1e-5)
    head = [said for said, _ in tokens[0]]
    wanted = [row["mean"] for row in told["tokens"] if row["name"] == "kv mean"]
    assert [float(str(row[head.index("KV mean")][1])) for row in tokens[1:]] == pytest.approx(wanted, rel=1e-5)
    head = [said for said, _ in latency[0]]
    wanted = [row["p50"] for row in told["latency"] if (row["name"], row["unit"]) == ("end to end", "ms")]
    assert [float(str(row[head.index("end to end")][1])) for row in latency[1:]] == pytest.approx(wanted, rel=1e-5)


def test_nothing_is_loaded_and_only_its_own_scripts_run(text: str) -> None:
    parsed = Tables(text)
    (policy,) = (a["content"] for _, a in parsed.met if a.get("http-equiv") == "Content-Security-Policy")
    rules = dict(rule.strip().split(" ", 1) for rule in str(policy).split(";"))
    assert rules["default-src"] == "'none'" and rules["img-src"] == "data:"
    allowed = rules["script-src"].split()
    running = [*(s for s in parsed.scripts if s and not re.fullmatch(r"[A-Za-z0-9+/=]+", s)), packed(text, "charts")]
    digests = [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in running]
    assert sorted(allowed) == sorted(f"'sha256-{digest}'" for digest in digests) and len(digests) == 2
    for _, attributes in parsed.met:
        assert not {"src", "srcset", "onclick", "onload", "action"} & attributes.keys()
        assert str(attributes.get("href", "#")).startswith("#")
    assert "url(" not in text and "@import" not in text


def test_what_papers_report_stands_apart_with_its_source() -> None:
    """On the pocket model: METEOR's main row is measured, and its figures are those of another model."""
    (section,) = sections(load(ROOT / "results/reference/pocket"))
    found = {one.title: one for one in reported(section)}
    main = found["METEOR: Accuracy and cost beside other methods"]
    assert [origin for origin, _ in main.sides] == ["measured", "reported"]
    (_, ours), (_, theirs) = main.sides
    assert next(row for row in theirs.rows if row[0] == "METEOR")[1:4] == ["242", "13.42", "71.4"]
    average = next(row for row in ours.rows if row[0] == "METEOR")[list(ours.columns).index("average")]
    cell = next(c for c in section.cells if (c.label, c.ratio) == ("meteor", 0.76))
    eleven = [t.score for t in cell.record.tasks if t.task != "pocket_videomme"]
    assert float(average) == pytest.approx(sum(eleven) / 11, abs=0.051)
    parsed = Tables("".join(laid_out([main])))
    assert [a["data-origin"] for _, a in parsed.met if "data-origin" in a] == ["measured", "reported"]
    text = "".join(laid_out([main]))
    here, there = text.split('data-origin="reported"')
    assert "measured here" in here and "13.42" not in here and "242" not in here
    for said in ("reported § by the paper, not measured here", "arXiv 2507.20842", "confidence secondary", "Eagle-X4"):
        assert said in there


def test_without_such_runs_the_part_says_so(text: str, chapter: Chapter) -> None:
    assert chapter.reported == [] and "No paper&#x27;s table that meteor-bench knows has a pruned row" in text


def test_a_single_image_gives_no_interval(tmp_path: Path) -> None:
    """Four questions of each benchmark are about one image."""
    for method, ratio in (("none", 0.0), ("fastv", 0.5)):
        synthetic.write(RunConfig(method=method, ratio=ratio, out=tmp_path), n=4)
    text = page(chapters(load(tmp_path)))
    assert "no interval, 4 questions on 1 image" in text and "nan" not in text.partition("<body")[2].split("<script")[0]


def test_many_methods_start_with_the_best_and_the_controls(chapter: Chapter) -> None:
    assert at_first(chapter) == ["unpruned", "meteor", "random"]
    pruned = next(s for s in chapter.settings if s.method == "meteor")
    made = [
        replace(pruned, label=f"m{i:02}", ratio=ratio, scores={"average": {**pruned.scores["average"], "score": score}})
        for ratio, ahead in ((0.5, 1), (0.76, -1))
        for i, score in enumerate(50.0 + ahead * np.arange(20))
    ]
    many = replace(chapter, settings=[*(s for s in chapter.settings if s.label in ("unpruned", "random")), *made])
    assert many.middle == 0.76
    shown = at_first(many)
    assert shown == ["unpruned", "random", *(f"m{i:02}" for i in range(AT_FIRST - 2))]
    assert len({colours(many)[label] for label in shown}) == AT_FIRST


def test_a_benchmark_s_sub_scores_are_folded_below_its_score(tmp_path: Path) -> None:
    for config in (RunConfig(out=tmp_path), RunConfig(method="fastv", ratio=0.5, out=tmp_path)):
        rows = synthetic.samples(config)
        plain, *others = synthetic.record(config, rows, None).tasks
        said = {"m,none": 0.25, f"{EVIL},none": 1 - config.ratio}
        parts = replace(plain, metrics=said, families={"far": 12.5})
        synthetic.write(config, rows=rows, tasks=(parts, *others))
    (made,) = chapters(load(tmp_path))
    text = page([made])
    folded = text.partition("Metrics and kinds of question")[2].partition("</figure>")[0]
    (table,) = Tables(folded).tables
    heads, *rows_shown = [[cell for cell, _ in row] for row in table]
    assert heads == ["", "m", EVIL, "far"]
    assert rows_shown == [["unpruned", "0.25", "1", "12.5"], ["fastv 0.5", "0.25", "0.5", "12.5"]]
    assert folded.count("<details><summary>scienceqa</summary>") == folded.count("<summary>") == 1
    assert "onclick='x'" not in text
    assert "Metrics and kinds" not in page([replace(made, subscores=())])


def test_another_setting_adds_an_element_for_each_number(text: str, chapter: Chapter) -> None:
    """What a page of many methods takes to open grows with its elements: a row has its cells, and one for the ratio."""
    table = text.partition('id="accuracy-table-0"')[2].partition("</table>")[0]
    rows = [
        row for row in table.partition("<tbody>")[2].split("<tr")[1:] if "unpruned" not in row.partition("</th>")[0]
    ]
    columns = len(Tables(text).tables[0][0])
    assert len(rows) == len(chapter.settings) - 1
    assert all(1 + row.count("<") - row.count("</") <= 1 + columns + 1 and "style" in row for row in rows)
    assert all("style" not in cell for row in rows for cell in row.split("<t")[1:])


def test_counts_that_settings_share_stand_once(text: str, chapter: Chapter) -> None:
    """Two seeds' worth of methods that meet one budget exactly leave the same tokens of every question."""
    (section,) = json.loads(packed(text, "data"))["sections"]
    told = section["questions"]
    assert [told["tokens"][at] for at in told["counts"]] == chapter.questions.tokens
    assert len(told["tokens"]) == len({s.ratio for s in chapter.settings}) < len(chapter.settings)


def test_it_is_small_and_the_same_each_time(text: str, chapter: Chapter) -> None:
    assert len(text) < 700_000
    assert page([chapter]) == text


@pytest.mark.parametrize("field", ["model", "notes", "facts", "runs", "labels", "tasks"])
def test_texts_are_escaped(chapter: Chapter, field: str) -> None:
    evil: dict[str, Any] = {
        "model": {"model": EVIL},
        "notes": {"notes": [EVIL]},
        "facts": {"facts": {EVIL: EVIL}},
        "runs": {"runs": [{EVIL: EVIL}]},
        "labels": {"settings": [replace(s, label=s.label + EVIL, model=EVIL) for s in chapter.settings]},
        "tasks": {
            "tasks": {f"{t}{EVIL}": g for t, g in chapter.tasks.items()},
            "settings": [
                replace(s, scores={**s.scores, **{f"{t}{EVIL}": s.scores[t] for t in chapter.tasks}})
                for s in chapter.settings
            ],
        },
    }
    text = page([replace(chapter, **evil[field])])
    assert "onclick='x'" not in text and "&lt;/script&gt;&lt;b onclick=&#x27;x&#x27;&gt;&amp;amp;" in text
    assert text.count("<script") == text.count("</script>") == 3


def test_elements_escape_children_and_attributes() -> None:
    made = tag("p", "<i>", Html("<i></i>"), None, class_="a", title='"<', hidden=True, data_v=None, aria_x=False)
    assert made == '<p class="a" title="&quot;&lt;" hidden>&lt;i&gt;<i></i></p>'


def test_the_front_is_what_nobody_beats() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        points = [(float(c), float(s)) for c, s in rng.integers(0, 5, (8, 2))]
        beaten = {
            i
            for (i, p), q in product(enumerate(points), points)
            if q[0] <= p[0] and q[1] >= p[1] and q != p  # as cheap and as good, and better in one
        }
        assert pareto(points) == set(range(8)) - beaten


def test_the_file_is_written_whole(runs: Path, tmp_path: Path) -> None:
    file = tmp_path / "deep" / "report.html"
    write(load(runs), file)
    assert [p.name for p in file.parent.iterdir()] == ["report.html"]
    assert "No pictures of kept patches: this report was made from records alone" in file.read_text(encoding="utf-8")
    (tmp_path / "file").touch()
    with pytest.raises(MeteorBenchError, match="cannot write to"):
        write(load(runs), tmp_path / "file" / "report.html")
