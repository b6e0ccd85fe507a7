"""Tables of names: each name maps to "module:attribute", imported only when asked for.

Third parties add rows through the entry-point groups ``meteor_bench.methods``, ``meteor_bench.models`` and
``meteor_bench.families``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, NamedTuple

from meteor_bench.core.errors import (
    MeteorBenchError,
    PluginError,
    UnknownNameError,
)
from meteor_bench.core.plugins import added

__all__ = ["FAMILIES", "METHODS", "MODELS", "UNSUPPORTED", "Registry", "Unsupported", "parts_of"]


@dataclass(frozen=True)
class Registry:
    """A table of lazily imported objects.

    Attributes:
        kind: what a row is, for messages ("method").
        group: the entry-point group whose rows are added to ours.
        rows: name -> "module:attribute".
        parts: attributes that an object must have.
        makes: whether objects are classes, of which `make` makes instances.
    """

    kind: str
    group: str
    rows: Mapping[str, str] = field(default_factory=dict)
    parts: tuple[str, ...] = ()
    makes: bool = False

    def table(self) -> dict[str, str]:
        """All rows, ours first; a third party cannot shadow one of ours."""
        table = {point.name: point.value for point in added(self.group)}
        return {**table, **self.rows}

    def names(self) -> list[str]:
        """Our names in the order of the table, then third parties'."""
        return [*self.rows, *sorted(set(self.table()) - set(self.rows))]

    def target(self, name: str) -> str:
        """The "module:attribute" of a row.

        Raises:
            UnknownNameError: no such row.
        """
        target = self.rows.get(name) or self.table().get(name)
        if target is None:
            raise UnknownNameError(self.kind, name, self.names())
        return target

    def load(self, name: str) -> Any:
        """Import and return the object called ``name``.

        Raises:
            UnknownNameError: no such row.
            PluginError: it is somebody else's, and cannot be imported or is no such thing.
        """
        module, _, attribute = self.target(name).partition(":")
        with self.borrowed(name):
            found = getattr(import_module(module), attribute)
            lacking = [part for part in self.parts if not hasattr(found, part)]
            if lacking or (self.makes and not isinstance(found, type)):
                what = f"has no {', '.join(lacking)}" if lacking else "is no class"
                raise PluginError(f"{self._row(name)} cannot be used: {module}:{attribute} {what}")
        return found

    def make(self, name: str) -> Any:
        """An instance of a row that is a class, with its defaults; errors as for `load`."""
        found = self.load(name)
        with self.borrowed(name):
            return found()

    @contextmanager
    def borrowed(self, name: str) -> Iterator[None]:
        """Around code of a row: whatever somebody else's raises is one error with the row's name; ours is not hidden.

        Raises:
            PluginError: it raised something, or tried to end the process.
        """
        try:
            yield
        except MeteorBenchError:
            raise
        except (Exception, SystemExit) as error:
            if name in self.rows:
                raise
            said = " ".join(f"{type(error).__name__}: {error}".split()).removesuffix(":")
            raise PluginError(f"{self._row(name)} cannot be used: {said}") from error

    def _row(self, name: str) -> str:
        """A row with the package that it comes from."""
        found = (point.dist for point in added(self.group).select(name=name))
        package = next((dist.name for dist in found if dist is not None), None)
        return f"{self.kind} '{name}'" + (f" of the package {package}" if package else "")


_FILE = re.compile(r"\.py(:\w*)?$")


def parts_of(method: str) -> list[str]:
    """Names of the methods in a composition ("evoprune+fastv"); one that is no composition is its only part.

    A method's own name may end in "+" ("prumerge++fastv" is prumerge+ and fastv), and a file's path hold some.
    """
    if method in METHODS.rows or method in METHODS.table():
        return [method]
    parts: list[str] = []
    for piece in method.split("+"):
        if parts and "/" in parts[-1] and not _FILE.search(parts[-1]):  # a folder's name has a plus in it
            parts[-1] += f"+{piece}"
        elif piece == "" and parts:
            parts[-1] += "+"
        else:
            parts.append(piece)
    return parts


METHODS = Registry(
    "method",
    "meteor_bench.methods",
    {
        "none": "meteor_bench.methods.none:NoPruning",
        "random": "meteor_bench.methods.random:Random",
        "uniform": "meteor_bench.methods.uniform:Uniform",
        "pool": "meteor_bench.methods.pool:Pool",
        "subsample": "meteor_bench.methods.subsample:Subsample",
        "midpool": "meteor_bench.methods.midpool:MidPool",
        "downsample": "meteor_bench.methods.downsample:Downsample",
        "fastv": "meteor_bench.methods.fastv:FastV",
        "pyramiddrop": "meteor_bench.methods.pyramiddrop:PyramidDrop",
        "sparsevlm": "meteor_bench.methods.sparsevlm:SparseVLM",
        "divprune": "meteor_bench.methods.divprune:DivPrune",
        "cdpruner": "meteor_bench.methods.cdpruner:CDPruner",
        "dart": "meteor_bench.methods.dart:Dart",
        "trim": "meteor_bench.methods.trim:Trim",
        "mustdrop": "meteor_bench.methods.mustdrop:MustDrop",
        "evoprune": "meteor_bench.methods.evoprune.method:EvoPrune",
        "tome": "meteor_bench.methods.tome:ToMe",
        "visionzip": "meteor_bench.methods.visionzip:VisionZip",
        "prumerge": "meteor_bench.methods.prumerge:PruMerge",
        "prumerge+": "meteor_bench.methods.prumerge:PruMergePlus",
        "fastervlm": "meteor_bench.methods.fastervlm:FasterVLM",
        "vispruner": "meteor_bench.methods.vispruner:VisPruner",
        "holov": "meteor_bench.methods.holov:HoloV",
        "oc-vtp": "meteor_bench.methods.oc_vtp:OCVTP",
        "comp-token": "meteor_bench.methods.comp_token:CompToken",
        "comp": "meteor_bench.methods.comp:Comp",
        "svdprune": "meteor_bench.methods.svdprune:SVDPrune",
        "e-adaprune": "meteor_bench.methods.e_adaprune:EAdaPrune",
        "earlytom": "meteor_bench.methods.earlytom:EarlyTom",
        "flowcut": "meteor_bench.methods.flowcut:FlowCut",
        "ipcv": "meteor_bench.methods.ipcv:IPCV",
        "ficoco-v": "meteor_bench.methods.ficoco_v:FiCoCoV",
        "hiprune": "meteor_bench.methods.hiprune:HiPrune",
        "scope": "meteor_bench.methods.scope:Scope",
        "apet": "meteor_bench.methods.apet:ApET",
        "mmtok": "meteor_bench.methods.mmtok:MMTok",
        "prunesid": "meteor_bench.methods.prunesid:PruneSID",
        "vscan": "meteor_bench.methods.vscan:VScan",
        "vidcom2": "meteor_bench.methods.vidcom2:VidCom2",
        "fastvid": "meteor_bench.methods.fastvid:FastVID",
        "dycoke": "meteor_bench.methods.dycoke:DyCoke",
        "holitom": "meteor_bench.methods.holitom:HoliTom",
        "framefusion": "meteor_bench.methods.framefusion:FrameFusion",
        "prunevid": "meteor_bench.methods.prunevid:PruneVid",
        "flashvid": "meteor_bench.methods.flashvid:FlashVID",
        "contrast": "meteor_bench.methods.contrast:Contrast",
        "meteor": "meteor_bench.methods.meteor.method:Meteor",
    },
    parts=("fact", "exact", "draws", "positions", "parameters", "bind", "points", "encode", "fuse", "decode"),
    makes=True,
)

MODELS = Registry(
    "model",
    "meteor_bench.models",
    {
        "pocket": "meteor_bench.models.pocket.model:POCKET",
        "pocket-clips": "meteor_bench.models.pocket.model:POCKET_CLIPS",
        "pocket-independent": "meteor_bench.models.pocket.model:POCKET_INDEPENDENT",
        "pocket-through": "meteor_bench.models.pocket.model:POCKET_THROUGH",
        "pocket-comp": "meteor_bench.models.pocket.model:POCKET_COMP",
        "natural": "meteor_bench.models.natural.model:NATURAL",
        "natural-independent": "meteor_bench.models.natural.model:NATURAL_INDEPENDENT",
        "llava-1.5-7b": "meteor_bench.models.llava:LLAVA_7B",
        "llava-next-7b": "meteor_bench.models.llava_next:LLAVA_NEXT_7B",
        "llava-onevision-0.5b": "meteor_bench.models.llava_onevision:LLAVA_ONEVISION_0_5B",
        "llava-onevision-7b": "meteor_bench.models.llava_onevision:LLAVA_ONEVISION_7B",
        "llava-onevision-72b": "meteor_bench.models.llava_onevision:LLAVA_ONEVISION_72B",
        "llava-video-7b": "meteor_bench.models.llava_onevision:LLAVA_VIDEO_7B",
        "qwen2.5-vl-3b": "meteor_bench.models.qwen2_5_vl:QWEN2_5_VL_3B",
        "qwen2.5-vl-7b": "meteor_bench.models.qwen2_5_vl:QWEN2_5_VL_7B",
        "qwen2.5-vl-32b": "meteor_bench.models.qwen2_5_vl:QWEN2_5_VL_32B",
        "qwen2.5-vl-72b": "meteor_bench.models.qwen2_5_vl:QWEN2_5_VL_72B",
        "qwen3-vl-2b": "meteor_bench.models.qwen3_vl:QWEN3_VL_2B",
        "qwen3-vl-4b": "meteor_bench.models.qwen3_vl:QWEN3_VL_4B",
        "qwen3-vl-8b": "meteor_bench.models.qwen3_vl:QWEN3_VL_8B",
        "qwen3-vl-32b": "meteor_bench.models.qwen3_vl:QWEN3_VL_32B",
        "qwen3-vl-30b-a3b": "meteor_bench.models.qwen3_vl_moe:QWEN3_VL_30B_A3B",
        "qwen3-vl-235b-a22b": "meteor_bench.models.qwen3_vl_moe:QWEN3_VL_235B_A22B",
        "internvl3-1b": "meteor_bench.models.internvl:INTERNVL3_1B",
        "internvl3-2b": "meteor_bench.models.internvl:INTERNVL3_2B",
        "internvl3-8b": "meteor_bench.models.internvl:INTERNVL3_8B",
        "internvl3-14b": "meteor_bench.models.internvl:INTERNVL3_14B",
        "internvl3-38b": "meteor_bench.models.internvl:INTERNVL3_38B",
        "internvl3.5-1b": "meteor_bench.models.internvl:INTERNVL3_5_1B",
        "internvl3.5-2b": "meteor_bench.models.internvl:INTERNVL3_5_2B",
        "internvl3.5-4b": "meteor_bench.models.internvl:INTERNVL3_5_4B",
        "internvl3.5-8b": "meteor_bench.models.internvl:INTERNVL3_5_8B",
        "internvl3.5-14b": "meteor_bench.models.internvl:INTERNVL3_5_14B",
        "internvl3.5-38b": "meteor_bench.models.internvl:INTERNVL3_5_38B",
        "smolvlm2-256m": "meteor_bench.models.smolvlm:SMOLVLM2_256M",
        "smolvlm2-500m": "meteor_bench.models.smolvlm:SMOLVLM2_500M",
        "smolvlm2-2.2b": "meteor_bench.models.smolvlm:SMOLVLM2_2_2B",
        "deepseek-vl-hybrid-7b": "meteor_bench.models.deepseek_vl_hybrid:DEEPSEEK_VL_7B",
        "eagle-x2-7b": "meteor_bench.models.eagle.model:EAGLE_X2_7B",
        "eagle-x4-7b": "meteor_bench.models.eagle.model:EAGLE_X4_7B",
        "eagle-x4-8b-plus": "meteor_bench.models.eagle.model:EAGLE_X4_8B_PLUS",
        "eagle-x5-7b": "meteor_bench.models.eagle.model:EAGLE_X5_7B",
        "eagle-x5-13b": "meteor_bench.models.eagle.model:EAGLE_X5_13B",
        "eagle-x5-34b": "meteor_bench.models.eagle.model:EAGLE_X5_34B",
        "meteor-x4-7b": "meteor_bench.models.composed.shipped:METEOR_X4_7B",
        "cambrian-4-8b": "meteor_bench.models.composed.shipped:CAMBRIAN_4_8B",
        "ladder-x1": "meteor_bench.models.composed.shipped:LADDER_X1",
        "ladder-x2": "meteor_bench.models.composed.shipped:LADDER_X2",
        "ladder-x3": "meteor_bench.models.composed.shipped:LADDER_X3",
        "ladder-x4": "meteor_bench.models.composed.shipped:LADDER_X4",
        "ladder-x5": "meteor_bench.models.composed.shipped:LADDER_X5",
        "base-cpu": "meteor_bench.models.composed.shipped:BASE_CPU",
    },
    parts=("name", "build", "published", "weights", "towers", "fusion"),
)

# A checkpoint's model_type -> function (config.json as a mapping, name) -> ModelCard that builds from such a folder.
FAMILIES = Registry(
    "model family",
    "meteor_bench.families",
    {
        "pocket": "meteor_bench.models.pocket.model:card_for",
        "natural": "meteor_bench.models.natural.model:card_for",
        "llava": "meteor_bench.models.llava:card_for",
        "llava_next": "meteor_bench.models.llava_next:card_for",
        "llava_onevision": "meteor_bench.models.llava_onevision:card_for",
        "qwen2_5_vl": "meteor_bench.models.qwen2_5_vl:card_for",
        "qwen3_vl": "meteor_bench.models.qwen3_vl:card_for",
        "qwen3_vl_moe": "meteor_bench.models.qwen3_vl_moe:card_for",
        "internvl": "meteor_bench.models.internvl:card_for",
        "smolvlm": "meteor_bench.models.smolvlm:card_for",
        "deepseek_vl_hybrid": "meteor_bench.models.deepseek_vl_hybrid:card_for",
        "eagle_llama": "meteor_bench.models.eagle.model:card_for",
    },
)


class Unsupported(NamedTuple):
    """A multi-encoder model that people will ask for.

    Attributes:
        kinds: how the model_type of its checkpoints begins.
        why: what keeps an adapter from being as short as the others.
    """

    name: str
    kinds: tuple[str, ...]
    why: str


UNSUPPORTED = (
    # arXiv 2403.18814, section 3.2: patch information mining.
    Unsupported("Mini-Gemini", ("mgm", "mini_gemini"), "its ConvNeXt refines CLIP's tokens and adds none to prune"),
    # arXiv 2406.16860, section 3: the spatial vision aggregator.
    Unsupported("Cambrian-1", ("cambrian",), "layers of its language model sample a fixed grid of 24 x 24 tokens"),
)
