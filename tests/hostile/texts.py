"""What stands in hostile files, values and names."""

from __future__ import annotations

from itertools import pairwise


def _bomb(first: str, more: str) -> str:
    names = [f"n{i}" for i in range(12)]
    lines = [f"{names[0]}: &{names[0]} {first}"]
    for before, name in pairwise(names):
        lines.append(f"{name}: &{name} {more.format(','.join([f'*{before}'] * 9))}")
    return "\n".join(lines)


YAML = {
    "list aliases": _bomb("[x,x]", "[{}]"),
    "map aliases": _bomb("{a: 1}", "{{k: [{}]}}"),
    "merges": _bomb("{a: 1}", "{{<<: [{}]}}"),
    "itself": "ratio: &a [*a]",
    "itself in a table": "parameters: &a {x: *a}",
    "brackets": "ratio: " + "[" * 20_000,
    "closed brackets": "ratio: " + "[" * 3000 + "]" * 3000,
    "dashes": "- " * 20_000,
    "questions": "? " * 20_000,
    "comments": "# nothing\n" * 120_000,
    "bool": "seed: !!bool maybe",
    "int": "seed: !!int x",
    "float": "ratio: !!float x",
    "timestamp": "seed: !!timestamp x",
    "binary": "seed: !!binary x",
    "set": "parameters: !!set {a, b}",
    "omap": "parameters: !!omap [a: 1]",
    "python": "out: !!python/object/apply:os.system ['true']",
    "tag": "out: !mine x",
    "surrogate": 'method: "\\ud800"',
    "huge number": "seed: " + "9" * 5000,
    "more than 64 bits": "seed: 99999999999999999999999",
    "hexadecimal": "seed: 0x" + "f" * 5000,
    "infinity": "ratio: .inf",
    "nan": "ratio: .nan",
    "overflow": "ratio: 1e999",
    "date": "seed: 2020-01-01",
    "no date": "seed: 2020-99-99",
    "zero byte": "method: a\0b",
    "escape": 'method: "\\e[31m"',
    "two documents": "seed: 1\n---\nseed: 2",
    "unhashable key": "{[a]: 1}",
    "number as key": "1: 2",
    "nothing as key": "~: 2",
    "merge of a number": "<<: 3",
    "text alone": "hello",
    "list alone": "- seed",
    "cut": "method: 'a",
    "tab": "method:\n\t- a",
    "percent": "%YAML 9.9\n---\na: 1",
    "no anchor": "seed: *nobody",
}

DEEP = "[" * 100_000 + "]" * 100_000
JSON: dict[str, bytes] = {
    "nothing": b"",
    "deep": DEEP.encode(),
    "quite deep": b'{"schema": ' + b"[" * 900 + b"]" * 900 + b"}",
    "deep table": (b'{"a":' * 50_000) + b"1" + b"}" * 50_000,
    "cut": b'{"schema": 1, "repositories": {',
    "list": b"[1, 2]",
    "number": b"3",
    "null": b"null",
    "text": b'"x"',
    "binary": bytes(range(256)),
    "utf-16": '{"schema": 1}'.encode("utf-16"),
    "latin-1": b'{"schema": "\xe9"}',
    "half a surrogate": b'{"schema": "\\ud800", "a\\udfff": 1}',
    "huge number": b'{"schema": ' + b"9" * 10_000 + b"}",
    "schema 99": b'{"schema": 99}',
    "schema a list": b'{"schema": [1]}',
    "schema a table": b'{"schema": {"a": 1}}',
    "nan": b'{"schema": NaN}',
    "two values": b'{"schema": 1} {"schema": 1}',
}


VALUES = [
    "",
    " ",
    "null",
    "9" * 5000,
    "9" * 22,
    "-1",
    "0",
    "2020-01-01",
    "2020-99-99",
    ".nan",
    ".inf",
    "-.inf",
    "1e999",
]
VALUES += ["[" * 2000, "{a: b}", "[1, [2]]", "!!bool maybe", "!!timestamp x", "&a [*a]", '"\\ud800"', "true", "x", "'"]
VALUES += [
    "!!python/name:os.system",
    "0.5",
    "[]",
    "{}",
    "~",
    "1_0",
    "0x" + "f" * 5000,
    "\0",
    "\x1b[31m",
    "*a",
    "1" * 300,
]


CARDS = {
    "configs a number": "configs: 3",
    "configs a table": "configs: {a: b}",
    "configs of text": "configs: [a]",
    "files a number": "configs: [{config_name: default, data_files: 3}]",
    "files of numbers": "configs: [{config_name: default, data_files: [1]}]",
    "no path": "configs: [{config_name: default, data_files: [{split: test}]}]",
    "path a number": "configs: [{config_name: default, data_files: [{split: test, path: 3}]}]",
    "no split": "configs: [{config_name: default, data_files: [{path: a}]}]",
    "split a list": "configs: [{config_name: default, data_files: [{split: [a], path: a}]}]",
    "info text": "dataset_info: x",
    "info of text": "dataset_info: [x]",
    "splits a number": "dataset_info: {splits: 3}",
    "splits of text": "dataset_info: {splits: [x]}",
    "name a list": "configs: [{config_name: [a], data_files: x}]",
    **{name: YAML[name] for name in ("list aliases", "merges", "itself", "brackets", "timestamp", "bool", "surrogate")},
}


NAMES = {
    "long": "a" * 300,
    "long folder": "a/" * 3000,
    "nobody": "~nobody-there/x",
    "zero byte": "a\0b",
    "dots": "..",
    "escape": "\x1b[31m/x",
}
