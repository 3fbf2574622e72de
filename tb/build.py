"""Verilated builds: one per design, shared by both players, kept in the cache folder.

A build is a folder named by a hash of everything that goes into it, with three parts that are made when first asked
for: the model (C++ of the design, compiled once), the cocotb program and the bulk library, both linked from the model's
objects. The Verilator runtime, which takes longer to compile than most designs, is compiled once per set of flags and
linked into all of them. Parallel processes wait for each other; a part that was interrupted is made again.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path, PurePath
from typing import Any

import cocotb
from cocotb_test.simulator import Verilator

from gen import toolchain
from gen.export import Product
from gen.manifest import beat_bytes, pins, signal_name

DRIVER = Path(__file__).with_name("driver.cpp")
LIBRARY = "libverilated.a"
HEADERS = "players.h.fast"


class BuildError(RuntimeError):
    """A compiler refused a design: the command and the end of what it said."""


@dataclass(frozen=True)
class Flags:
    """``waves`` compiles tracing in, ``coverage`` counters of what it names, ``line`` and ``toggle``. ``optimise`` is
    for the bulk player alone: it leaves out what cocotb needs, and spends build time on speed.
    """

    waves: bool = False
    optimise: bool = False
    coverage: tuple[str, ...] = ()

    @property
    def verilate(self) -> list[str]:
        flags = ["-Wno-lint", "-Wno-fatal", "-CFLAGS", "-fPIC"]
        if self.optimise:
            flags += ["--x-assign", "fast", "--x-initial", "fast"]
        else:
            flags += ["--vpi", "-fno-merge-cond"]  # that pass can take minutes on a large module
        if self.coverage:
            flags += [*(f"--coverage-{kind}" for kind in self.coverage), "--coverage-max-width", "4096"]
        if self.waves:
            flags += [f"--trace-{wave_format()}", "--trace-structs"]
        return flags

    def make(self, headers: str = "") -> list[str]:
        """Variables for make. ``headers`` are compiler flags that name precompiled ones."""
        if self.optimise:
            return [f"OPT_FAST=-O2 {_tuning()}".rstrip(), "OPT_SLOW=-O1"]
        # Most of these models run for less time than they take to compile: little optimisation, one file.
        return [f"OPT_FAST=-Og {headers}".rstrip(), "VM_PARALLEL_BUILDS=0"]


class Simulation(Verilator):
    """cocotb-test's Verilator simulator with the build taken out: ``run()`` runs the program of a finished
    :class:`Build`.
    """

    def __init__(self, build: "Build", **kwargs: Any):
        with _global_state_kept():
            super().__init__(
                toplevel=build.product.top,
                verilog_sources=[str(build.folder / f) for f in (f"{build.product.top}.v", "ports.vlt")],
                sim_build=str(build.folder),
                **kwargs,
            )
        self.build = build

    def commands(self) -> tuple[list[str], list[str], list[str]]:
        """Verilate, make, run: cocotb-test's, with ports alone public, the cached runtime and our flags."""
        tool = toolchain.verilator()
        with environment(**tool.environment):
            verilate, make, run = super().build_command()
        for flag in ("--public-flat-rw", "--vpi"):
            verilate.remove(flag)
        at, runtime = verilate.index("-LDFLAGS") + 1, _runtime(self.build.flags)
        verilate[at] = f"{runtime / LIBRARY} {verilate[at]}"
        verilate += self.build.flags.verilate
        headers = f"-include {runtime / HEADERS} -Winvalid-pch"
        return verilate, [*make, "-j2", *tool.make, *self.build.flags.make(headers), "VK_GLOBAL_OBJS="], run

    def build_command(self) -> list[list[str]]:
        run = self.commands()[2]
        if self.build.flags.waves:
            run += [
                "--trace",
                "--trace-file",
                os.path.join(self.work_dir, f"dump.{wave_format()}"),
            ]
        return [run]


@dataclass(frozen=True)
class Build:
    """The build of one product. Nothing is compiled before :meth:`program` or :meth:`library` is called."""

    product: Product
    flags: Flags = Flags()

    @cached_property
    def key(self) -> str:
        tools = _tools()  # first, so that a missing Verilator is what is said to be missing
        parts = (
            self.product.verilog,
            self._control_file(),
            self._binding(),
            DRIVER.read_text(),
            repr(self.flags.verilate + self.flags.make()),
            *tools,
        )
        return _hash(*parts)

    @property
    def folder(self) -> Path:
        return toolchain.cache_folder() / "builds" / f"{self.product.top}-{self.key}"

    def program(self) -> Path:
        """The simulator with cocotb inside; run it through :class:`Simulation`. Not with ``optimise``."""
        assert not self.flags.optimise
        program = self.folder / self.product.top
        self._once("program", lambda: self._make(self.product.top))
        return program

    def library(self) -> Path:
        """The shared library of ``driver.cpp`` around the model."""
        library = self.folder / "libplayer.so"

        def compile_and_link() -> None:
            self._make("libplayer.o")
            runtime = _runtime(self.flags)
            hide = "-Wl,--exclude-libs,ALL"  # or two libraries in one process would share C++ symbols of the same name
            link = [
                "-shared",
                "-o",
                library.name,
                "libplayer.o",
                "Vtop__ALL.a",
                str(runtime / LIBRARY),
                "-pthread",
                hide,
            ]
            _run([toolchain.cxx(), *link], self.folder)

        self._once("library", compile_and_link)
        return library

    def _once(self, part: str, make: Callable[[], None]) -> None:
        with locked(self.folder):
            if not (self.folder / "model.done").exists():
                shutil.rmtree(self.folder, ignore_errors=True)
                self._model()
                (self.folder / "model.done").touch()
            if not (self.folder / f"{part}.done").exists():
                make()
                (self.folder / f"{part}.done").touch()

    def _model(self) -> None:
        self.folder.mkdir(parents=True)
        (self.folder / f"{self.product.top}.v").write_text(self.product.verilog)
        (self.folder / "ports.vlt").write_text(self._control_file())
        (self.folder / "binding.h").write_text(self._binding())
        shutil.copy(DRIVER, self.folder / "libplayer.cpp")
        verilate, _, _ = self._simulation.commands()
        _run(verilate, self.folder)
        self._make("Vtop__ALL.a")
        for headers in self.folder.glob("*.gch"):  # of several files; 70 MB each, and nothing needs them any more
            headers.unlink()

    def _make(self, target: str) -> None:
        # what an interrupted make left half-written must not look up to date
        (self.folder / target).unlink(missing_ok=True)
        (self.folder / "verilator.o").unlink(missing_ok=True)
        _, make, _ = self._simulation.commands()
        _run([*make, target], self.folder)

    @cached_property
    def _simulation(self) -> Simulation:
        return Simulation(self, module="", waves=False)

    def _control_file(self) -> str:
        """Makes the ports, and nothing else, visible to cocotb: inputs for writing, outputs for reading."""
        if self.flags.optimise:
            return "`verilator_config\n"
        access = {"input": "rw", "output": "rd"}
        lines = [
            f'public_flat_{access[p["direction"]]} -module "{self.product.top}" -var "{p["name"]}"\n'
            for p in self.product.manifest["ports"]
        ]
        return "`verilator_config\n" + "".join(lines)

    def _binding(self) -> str:
        """C++ that lists the ports for ``driver.cpp``, in the order of the manifest."""
        m = self.product.manifest
        lines = [f"    clk = &top.{m['clock']};", f"    rst = &top.{m['reset']};"]
        for s in m["streams"]:
            last = f"&top.{signal_name(s, 'last')}" if s["tlast"] else "nullptr"
            handshake = f"&top.{signal_name(s, 'valid')}, &top.{signal_name(s, 'ready')}"
            carry = ", ".join(f"{{bytes(top.{p.name}), {p.lsb}, {p.width}}}" for p in pins(s))
            agents = "sources" if s["direction"] == "in" else "sinks"
            lines.append(f"    {agents}.emplace_back(Pins{{{beat_bytes(s)}, {handshake}, {last}, {{{carry}}}}});")
        for s in m["status"]:
            lines.append(f"    status.push_back({{bytes(top.{s['name']}), 0, {s['width']}}});")
        for p in recorded(m):
            driven = "true" if p["direction"] == "input" else "false"
            lines.append(f"    ports.push_back({{bytes(top.{p['name']}), {p['width'] + 7 >> 3}, {driven}}});")
        lines += ["}", "", "void Player::tie(const uint64_t* values) {"]
        lines += [f"    top.{name} = values[{i}];" for i, name in enumerate(m.get("tied", ()))]
        return "void Player::bind() {\n" + "\n".join(lines) + "\n}\n"


def recorded(manifest: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The ports that the bulk player can record, in order: all but the clock."""
    return [p for p in manifest["ports"] if p["name"] != manifest["clock"]]


@cache
def _tuning() -> str:
    """What keeps g++ on x86 from 16-bit arithmetic, where the compiler knows the option.

    Models are full of signals of 9 to 16 bits, and an instruction with a 16-bit constant stalls the decoder: without
    them the models ran 1.2 times as fast.
    """
    option = "-mtune-ctrl=^himode_math"
    test = subprocess.run([toolchain.cxx(), option, "-E", "-x", "c++", "/dev/null"], capture_output=True)
    return "" if test.returncode else option


@cache
def wave_format() -> str:
    """``fst`` where its compression libraries are installed, else ``vcd``."""
    headers = ["-include", "lz4.h", "-include", "zlib.h"]
    test = subprocess.run([toolchain.cxx(), "-E", *headers, "-x", "c++", "/dev/null"], capture_output=True)
    return "vcd" if test.returncode else "fst"


@contextlib.contextmanager
def environment(**values: str) -> Iterator[None]:
    """Environment variables for the time of a block."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Exclusive among processes, by a lock file beside ``folder``."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(f"{folder}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextlib.contextmanager
def _global_state_kept() -> Iterator[None]:
    """cocotb-test sets signal handlers and warning filters for the whole process."""
    signals = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
    handlers = [(s, signal.getsignal(s)) for s in signals]
    with warnings.catch_warnings():
        yield
    for s, handler in handlers:
        signal.signal(s, handler)


def _runtime(wanted: Flags) -> Path:
    """Folder of ``LIBRARY``, with or without tracing and coverage, and of ``HEADERS``; from a design of one line."""
    tool, flags = toolchain.verilator(), replace(wanted, optimise=False)
    folder = toolchain.cache_folder() / "runtime" / _hash(repr(flags.verilate + flags.make()), *_tools())
    with locked(folder):
        if not (folder / "done").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            (folder / "t.v").write_text("module t(input clk /*verilator public_flat_rw*/); endmodule\n")
            verilate = [toolchain.perl(), str(tool.program), "--cc", "--prefix", "Vtop", "-Mdir", "."]
            _run([*verilate, *flags.verilate, "t.v"], folder)
            (folder / HEADERS).write_text('#include "verilated.h"\n#include "verilated_dpi.h"\n#include <vector>\n')
            shutil.copy(folder / HEADERS, folder / PurePath(HEADERS).stem)  # what Verilator's rule makes `.fast.gch` of
            make = [toolchain.make(), "-j2", "-f", "Vtop.mk", *tool.make]
            _run([*make, LIBRARY], folder)
            _run([*make, *flags.make(), f"{HEADERS}.gch"], folder)
            (folder / "done").touch()
    return folder


def _tools() -> list[str]:
    """What else decides what a build contains."""
    tool = toolchain.verilator()
    return [
        str(tool.program),
        tool.version,
        *tool.make,
        toolchain.cxx(),
        cocotb.__file__,
        cocotb.__version__,
    ]


def _hash(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def _run(command: Sequence[str], folder: Path) -> None:
    env = os.environ | toolchain.verilator().environment
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True)
    if done.returncode:
        said = "\n".join((done.stdout + done.stderr).splitlines()[-20:])
        raise BuildError(f"{' '.join(command[:2])} ... failed in {folder}:\n{said}")
