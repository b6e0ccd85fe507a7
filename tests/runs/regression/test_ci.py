"""What continuous integration runs."""

from __future__ import annotations

from pathlib import Path

import yaml

ROOT = Path(__file__).parents[3]
BASELINE = "results/reference/check.yaml"


def test_every_step_is_run_on_our_machine_and_on_github() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert script.index("make lint test") < script.index("make check")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert f"check: $(STAMP)\n\t$(BIN)/meteor-bench check --baseline {BASELINE}\n" in makefile
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    (job,) = workflow["jobs"].values()
    steps = [step["run"] for step in job["steps"] if "run" in step]
    check = f".venv/bin/meteor-bench check --baseline {BASELINE} --junit check.xml"
    wanted = ["make setup", "make lint", "make test", check]
    assert [step for step in steps if step in wanted] == wanted
    cached = [
        step["with"] for step in job["steps"] if "cache" in step.get("uses", "") or "cache" in str(step.get("with"))
    ]
    assert any(c.get("cache") == "pip" for c in cached) and any("uv" in c.get("path", "") for c in cached)
