"""Every unit that can be generated: one entry here is all that the other tools need to know of it."""

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from amaranth.lib import wiring

from golden.kmeans.function import KMeansFunctionSpec
from golden.kmeans.linear import KMeansLinearSpec
from golden.kmeans.lutgemm import LutGemmSpec
from golden.kmeans.quantizer import QuantizerSpec
from golden.mixpe.baseline import BaselineSpec
from golden.mixpe.gemm import MixPESpec
from golden.mixpe.pe import PESpec
from golden.mixpe.stationary import WeightStationary
from golden.moe.balance import BalanceSpec
from golden.moe.cache import ExpertCacheSpec
from golden.moe.dispatch import DispatchSpec
from golden.moe.expert import ExpertFFNSpec
from golden.moe.gate import GateSpec
from golden.moe.layer import MoEFFNSpec
from golden.moe.prediction_table import ExpertTableSpec
from golden.moe.resident import MoEResidentSpec
from golden.moe.scoring import RouterSpec
from golden.orizuru.engine import OrizuruSpec
from golden.soc.accelerator import AcceleratorSpec
from golden.soc.bridge import BridgeSpec
from golden.soc.memory import MemorySpec
from golden.spec import SpecError, UnitSpec
from hdl.kmeans.function import KMeansFunction
from hdl.kmeans.lutgemm import LutGemm
from hdl.kmeans.quantizer import Quantizer
from hdl.layers.expert_ffn import ExpertFFN
from hdl.layers.gate import Gate
from hdl.layers.kmeans_linear import KMeansLinear
from hdl.layers.moe_ffn import MoEFFN
from hdl.layers.moe_resident import MoEResident
from hdl.layers.router import Router
from hdl.mixpe.baseline import BaselineStream
from hdl.mixpe.engine import Engine
from hdl.mixpe.pe_stream import PEStream
from hdl.mixpe.stationary.engine import StationaryEngine
from hdl.moe.balance import Balance
from hdl.moe.cache import ExpertCache
from hdl.moe.dispatch import Dispatch
from hdl.moe.prediction_table import ExpertTable
from hdl.orizuru import engine as orizuru
from hdl.soc.accelerator import Accelerator
from hdl.soc.bridge import Bridge
from hdl.soc.memory import AxiMemory


@dataclass(frozen=True)
class Unit:
    """A unit: its specification, its hardware, and the configurations that are worth a name.

    ``component(spec)`` has one stream per ``spec.ports`` and one output per ``spec.status``, under its signal's name.
    Every preset is exported, linted and benched by the tests. ``status`` says how far the unit's verification has come.
    ``others``: the components of specifications that are of a subclass of ``spec``.
    """

    name: str
    summary: str
    source: str
    spec: type[UnitSpec]
    component: type[wiring.Component]
    presets: Mapping[str, Mapping[str, Any]]
    status: str
    others: Mapping[type[UnitSpec], type[wiring.Component]] = field(default_factory=dict)

    def hardware(self, spec: UnitSpec) -> type[wiring.Component]:
        """The component for a specification of this unit."""
        return self.others.get(type(spec), self.component)

    def preset(self, name: str) -> Mapping[str, Any]:
        """The values that a preset sets; :class:`SpecError` for an unknown one."""
        return self.presets[_one_of(f"preset of {self.name}", name, self.presets)]

    def configure(self, preset: str | None = None, layers: Iterable[Mapping[str, Any]] = ()) -> UnitSpec:
        """A specification from a preset and further layers of values, later ones over earlier ones."""
        values = dict(self.preset(preset)) if preset else {}
        for layer in layers:
            values |= layer
        return self.spec.from_values(values)


TINY_LAYER = {"d": 32, "neurons": 32, "experts": 3, "tokens": 5, "rows": 2, "cols": 4, "group": 16}
"""Of experts."""

UNITS = {
    u.name: u
    for u in (
        Unit(
            "mixpe_pe",
            "one MixPE processing element behind streams: exact group sums of low-bit weights times wider activations",
            "MixPE (arXiv 2411.16158), shift-and-add processing element",
            PESpec,
            PEStream,
            {"default": {}, "tiny": {"group": 16}},
            "simulated",
        ),
        Unit(
            "pe_baseline",
            "what MixPE is compared with, one element behind streams: FP16, FP16 after dequantisation, BitFusion",
            "baselines of MixPE (arXiv 2411.16158); BitFusion (ISCA 2018)",
            BaselineSpec,
            BaselineStream,
            {
                "tiny": {"design": "bitfusion", "group": 16},
                "fp16": {"design": "fp16"},
                "dequant": {"design": "fp16_dequant"},
                "bitfusion": {"design": "bitfusion", "narrowest": "2x2"},
            },
            "simulated",
        ),
        Unit(
            "mixpe",
            "mixed-precision GEMM engine: systolic array of MixPE elements, dequantised once per group",
            "MixPE (arXiv 2411.16158), array and dequantisation after the group sum; minimum as in Q4_1",
            MixPESpec,
            Engine,
            {
                "tiny": {"rows": 2, "cols": 2},
                "square": {"rows": 16, "cols": 16},
                "moe": {"rows": 4, "cols": 64},
                "decode": {"rows": 1, "cols": 64},
                "stationary": {"dataflow": "weight_stationary", "tokens": 16},
            },
            "simulated",
            {WeightStationary: StationaryEngine},
        ),
        Unit(
            "orizuru",
            "the k largest and k smallest keys of a vector, exactly, with their positions: Orizuru and its rivals",
            "Orizuru, of KLLM (arXiv 2507.23035, later OASIS)",
            OrizuruSpec,
            orizuru.Engine,
            {
                "tiny": {"n": 8, "lanes": 4, "key": "int8"},
                "published": {"n": 16, "variant": "level", "ties": "paper"},
                "block": {"n": 64, "lanes": 16},
                "memory": {"n": 4096, "lanes": 32, "k_max": 41, "variant": "memory"},
            },
            "simulated",
        ),
        Unit(
            "kmeans_quantizer",
            "activations to indices of K-Means centroids, under a power-of-two scale per token",
            "KLLM (arXiv 2507.23035, later OASIS), clustering units",
            QuantizerSpec,
            Quantizer,
            {
                "tiny": {"bits": 2, "k_max": 16, "lanes": 2},
                "wide": {"k_max": 4096, "lanes": 32},
            },
            "simulated",
        ),
        Unit(
            "lutgemm",
            "GEMM on K-Means indices: pairs are counted, or looked up, and never dequantised",
            "WAQ LUT-GEMM of KLLM (arXiv 2507.23035, later OASIS)",
            LutGemmSpec,
            LutGemm,
            {
                "tiny": {
                    "act_bits": 2,
                    "weight_bits": 2,
                    "lines": 2,
                    "codes": 4,
                    "width": 4,
                    "k_max": 16,
                    "n_max": 8,
                },
                "direct": {"reducer": "direct", "codes": 32, "out": "fp32"},
            },
            "simulated",
        ),
        Unit(
            "kmeans_linear",
            "linear layer on K-Means indices of both sides, outliers found and made up for beside the main path",
            "OASIS, once KLLM (arXiv 2507.23035), look-ahead and error compensation",
            KMeansLinearSpec,
            KMeansLinear,
            {
                "tiny": {
                    "act_bits": 2,
                    "weight_bits": 2,
                    "k_max": 16,
                    "n_max": 8,
                    "lanes": 2,
                    "lines": 2,
                    "codes": 4,
                    "outliers": 2,
                },
                "smollm2": {"lines": 8, "codes": 32, "outliers": 6},
            },
            "simulated",
        ),
        Unit(
            "moe_ffn",
            "a whole feed-forward layer of a mixture of experts: router, gate, dispatcher, experts, sum",
            "CMoE (arXiv 2502.04416), inference",
            MoEFFNSpec,
            MoEFFN,
            {
                "tiny": TINY_LAYER,
                "pruned": {**TINY_LAYER, "pruning": True},
                "substitute": {**TINY_LAYER, "routing": "table", "scaled": True},
                "smollm2": {},
                "square": {"rows": 16, "cols": 16},
                "decode": {"rows": 1, "cols": 64, "tokens": 1},
            },
            "simulated",
        ),
        Unit(
            "moe_resident",
            "layers of a mixture of experts that do not all fit on chip: moe_ffn behind expert_cache, with prefetch",
            "SiDA-MoE (arXiv 2310.18859), prefetch; CMoE (arXiv 2502.04416), inference",
            MoEResidentSpec,
            MoEResident,
            {
                "tiny": {**TINY_LAYER, "tokens": 3, "layers": 2, "places": 2},
                "smollm2": {"neurons": 192, "experts": 14, "tokens": 4},
            },
            "simulated",
        ),
        Unit(
            "expert_ffn",
            "SwiGLU experts on one GEMM engine: a shared one, routed ones by queues of tokens, summed up per token",
            "CMoE (arXiv 2502.04416), shared and routed experts",
            ExpertFFNSpec,
            ExpertFFN,
            {
                "tiny": {**TINY_LAYER, "slots": 2},
                "smollm2": {},
            },
            "simulated",
        ),
        Unit(
            "kmeans_function",
            "nonlinear functions of K-Means indices from a loadable table, and a vector's moments from their histogram",
            "index-domain nonlinear operations of KLLM (arXiv 2507.23035, version 1)",
            KMeansFunctionSpec,
            KMeansFunction,
            {
                "default": {},
                "tiny": {"bits": 2, "lanes": 2, "n": 20, "moment_bits": 8},
                "remap": {"value": "index4", "moments": False},
            },
            "simulated",
        ),
        Unit(
            "router",
            "scores of experts for tokens: rows of their gate and up matrices by MixPE, SiLU and product in FP32",
            "CMoE (arXiv 2502.04416), analytical router on the experts' own rows",
            RouterSpec,
            Router,
            {
                "tiny": {"experts": 3, "cols": 4, "k_max": 64, "align": 8},
                "smollm2": {},
                "e16": {"experts": 12},
            },
            "simulated",
        ),
        Unit(
            "gate",
            "a token's experts: best by biased score, fixed number, threshold or both, and their weights",
            "CMoE (arXiv 2502.04416), router: selection, bias for balance, weights",
            GateSpec,
            Gate,
            {
                "default": {},
                "tiny": {"experts": 3, "bias": False, "scaled": False},
                "softmax": {"experts": 5, "lanes": 2, "softmax": True},
            },
            "simulated",
        ),
        Unit(
            "dispatch",
            "tokens of a batch to one queue per expert, in token order, with counts of all experts",
            "CMoE (arXiv 2502.04416), dispatch by expert; pruned tokens of arXiv 2211.10017",
            DispatchSpec,
            Dispatch,
            {
                "default": {},
                "tiny": {"experts": 3, "tokens": 4, "slots": 2},
                "capacity": {"experts": 14, "tokens": 128, "capacity": 64},
            },
            "simulated",
        ),
        Unit(
            "load_balance",
            "a bias per expert that follows its load: a step down above the mean, a step up below it",
            "CMoE (arXiv 2502.04416), load balance by biases",
            BalanceSpec,
            Balance,
            {"default": {}, "tiny": {"experts": 3, "tokens": 7}},
            "simulated",
        ),
        Unit(
            "expert_cache",
            "experts that do not all fit on chip: which are resident, prefetch by hints, loads on demand, grants",
            "SiDA-MoE (arXiv 2310.18859), expert cache",
            ExpertCacheSpec,
            ExpertCache,
            {
                "tiny": {"slots": 2, "keys": 5, "most": 3},
                "odd": {"slots": 5, "keys": 11, "most": 7, "policy": "residency", "outstanding": 3, "timeout": 300},
                "smollm2": {},
            },
            "simulated",
        ),
        Unit(
            "expert_table",
            "predicted experts of a batch for all layers: told layer by layer as entries and as hints",
            "SiDA-MoE (arXiv 2310.18859), hash tables",
            ExpertTableSpec,
            ExpertTable,
            {
                "tiny": {"layers": 2, "experts": 3, "tokens": 2},
                "odd": {"layers": 3, "experts": 5, "tokens": 7, "slots": 3, "confidence": 4},
                "smollm2": {},
            },
            "simulated",
        ),
        Unit(
            "accelerator",
            "engines behind AXI4: registers, a list of jobs in memory, DMA of general channels",
            "design of this project",
            AcceleratorSpec,
            Accelerator,
            {
                "tiny": {"bus": 64, "burst": 4, "depth": 8, "outstanding": 4, "gemm": "rows=2,cols=2"},
                "small": {
                    "burst": 8,
                    "depth": 16,
                    "gemm": "moe",
                    "topk": "n=8,lanes=4,key=int8",
                    "moe": "d=32,neurons=32,experts=3,tokens=5,rows=2,cols=4,group=16",
                },
                "medium": {
                    "gemm": "moe",
                    "linear": "k_max=64,n_max=64,lines=4,codes=16,outliers=4",
                    "topk": "linear",
                    "moe": "d=64,neurons=64,experts=4,tokens=8,rows=4,cols=16,ring=128",
                },
                "smollm2": {"moe": "ring=2048"},
                "fracast": {
                    "bus": 64,
                    "outstanding": 4,
                    "topk": "n=576,lanes=8,variant=memory",
                    "moe": "d=80,neurons=48,experts=8,tokens=16,rows=8,cols=8,group=16,weight=int8,core=multiply",
                },
            },
            "simulated",
        ),
        Unit(
            "axi_memory",
            "memory on chip behind AXI4, for one master or several",
            "for prototypes on FPGA boards",
            MemorySpec,
            AxiMemory,
            {
                "tiny": {"bus": 32, "words": 1024},
                "single": {"bus": 64, "words": 512, "masters": 1},
                "default": {},
            },
            "simulated",
        ),
        Unit(
            "uart_bridge",
            "registers and memory for a host at a serial line: frames of bytes to AXI4-Lite and AXI4",
            "for prototypes on FPGA boards",
            BridgeSpec,
            Bridge,
            {
                "tiny": {"bus": 32, "words": 4, "patience": 100},
                "default": {},
                "wide": {"bus": 256, "words": 8},
            },
            "simulated",
        ),
    )
}


def unit(name: str) -> Unit:
    """The unit of that name; :class:`SpecError` for an unknown one."""
    return UNITS[_one_of("unit", name, UNITS)]


def toml_layer(path: Path | str) -> Mapping[str, Any]:
    """The values in a TOML file; :class:`SpecError` when it cannot be read or parsed."""
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as e:
        raise SpecError(f"configuration file {path} must be readable: {e.strerror}") from None
    except (ValueError, RecursionError) as e:
        raise SpecError(f"configuration file {path} must be valid TOML: {e}") from None


def set_layer(setting: str) -> Mapping[str, Any]:
    """``key=value`` as one layer; the value stays text and is parsed with the field's type."""
    key, equals, value = setting.partition("=")
    if not (key and equals):
        raise SpecError(f"--set must have the form key=value, not {setting!r}")
    return {key: value}


def _one_of(what: str, name: str, among: Iterable[str]) -> str:
    known = list(among)
    if name in known:
        return name
    near = difflib.get_close_matches(name, known, n=1)
    hint = f", did you mean {near[0]}?" if near else ""
    raise SpecError(f"{name!r} is not a {what}; it must be one of {', '.join(known)}{hint}")
