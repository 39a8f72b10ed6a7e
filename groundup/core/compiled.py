"""Compiled kernels: a Python function that numba turns into machine code once, and that starts in no time after.

What enters: a module of ordinary ``numba.njit`` functions that take only numbers and pointers. What leaves: a
callable that runs the machine code without holding Python's lock. The code is kept in the cache folder, under a
name that follows the sources, the compiler and the processor. A later process loads it through ``llvmlite`` alone,
in a few milliseconds, and never imports numba, which takes 0.3 s and 40 MB. Nothing is unpickled.

Where numba is not installed, or ``GROUNDUP_COMPILED=0`` says so, ``available`` is false: the caller then uses the
plain Python that every kernel is tested against.
"""

import ctypes
import hashlib
import importlib
import importlib.util
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from groundup.core.errors import UsageError
from groundup.core.files import atomic_file, cache_folder
from groundup.core.progress import say

SWITCH = "GROUNDUP_COMPILED"

_TYPES: dict[str, Any] = {
    "i64": ctypes.c_int64,
    "u64": ctypes.c_uint64,
    "u8*": ctypes.c_void_p,
    "i32*": ctypes.c_void_p,
    "u32*": ctypes.c_void_p,
    "i64*": ctypes.c_void_p,
    "u64*": ctypes.c_void_p,
}
_lock = threading.Lock()


@cache
def available() -> bool:
    """Whether kernels can be compiled here; says once on stderr why not, unless the user decided it."""
    wish = os.environ.get(SWITCH, "1")
    if wish not in ("0", "1"):
        raise UsageError(f"{SWITCH} is {wish!r}; use 1 (compiled kernels) or 0 (plain Python)")
    if wish == "0":
        return False
    if importlib.util.find_spec("numba") is None:
        say("numba is not installed: using plain Python, which is much slower; pip install 'groundup[fast]'")
        return False
    return True


class Kernel:
    """One compiled function, made or loaded at its first call.

    ``Kernel("package.kernels.module:name", "i64", "u8*", "i64")`` is the function ``name`` of that module
    with its return type and its argument types: ``i64``, ``u64``, or a pointer ``u8*``, ``i32*``, ``u32*``,
    ``i64*``, ``u64*``. A pointer is passed as a contiguous NumPy array (which must outlive the call), as ``bytes``
    for ``u8*``, as ``ctypes.c_void_p`` (see ``pointer``), or as None. Calls release the GIL.
    """

    def __init__(self, name: str, returns: str, *arguments: str) -> None:
        self.name = name
        self.returns = returns
        self.arguments = arguments
        self._function: Callable[..., int] | None = None

    def __call__(self, *arguments: Any) -> int:
        function = self._function or self._prepare()
        return function(*[pointer(value) if isinstance(value, np.ndarray) else value for value in arguments])

    def bind(self) -> Callable[..., int]:
        """The bare ctypes function, for calls that count nanoseconds: pointers only as ``c_void_p`` or ``bytes``."""
        return self._function or self._prepare()

    def _prepare(self) -> Callable[..., int]:
        with _lock:
            if self._function is None:
                prototype = ctypes.CFUNCTYPE(
                    ctypes.c_int32,  # numba's status, which is never an error: kernels raise nothing
                    ctypes.c_void_p,
                    ctypes.c_void_p,
                    *(_TYPES[name] for name in self.arguments),
                )
                native = prototype(_load(self))
                result_type = _TYPES[self.returns]

                def call(*arguments: Any) -> int:
                    result = result_type()
                    native(ctypes.addressof(result), None, *arguments)
                    return int(result.value)

                self._function = call
        return self._function


def pointers(*arrays: np.ndarray[Any, Any]) -> tuple[ctypes.c_void_p, ...]:
    """The addresses of contiguous arrays, which the caller keeps alive."""
    return tuple(map(pointer, arrays))


def pointer(array: np.ndarray[Any, Any]) -> ctypes.c_void_p:
    """The address of a contiguous array, which the caller keeps alive."""
    if not array.flags.c_contiguous:
        raise ValueError("a kernel needs a contiguous array")
    return ctypes.c_void_p(array.ctypes.data)


@contextmanager
def _told(name: str) -> Iterator[None]:
    """Say how long a compilation took: it happens once per machine."""
    start = time.perf_counter()
    yield
    kernel = name.rpartition(".")[2].replace(":", ".")
    say(f"compiled {kernel} in {time.perf_counter() - start:.1f} s (kept in the cache)")


# The engine owns the machine code; it lives as long as the process.
_engine: Any = None


def _load(kernel: Kernel) -> int:
    """The address of the kernel's machine code, compiled now if this machine has not done so before."""
    global _engine
    import llvmlite.binding as llvm

    if _engine is None:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        _engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _machine(llvm))
    symbol, path = _kept_at(kernel, llvm)
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):  # of several processes one compiles
            if not path.is_file():
                with _told(kernel.name), atomic_file(path) as temporary:
                    temporary.write_bytes(_compile(kernel, symbol, llvm))
    _engine.add_object_file(llvm.ObjectFileRef.from_data(path.read_bytes()))
    _engine.finalize_object()
    return int(_engine.get_function_address(symbol))


def _machine(llvm: Any) -> Any:
    """Code for exactly this processor."""
    return llvm.Target.from_default_triple().create_target_machine(
        opt=3,
        cpu=llvm.get_host_cpu_name(),
        features=llvm.get_host_cpu_features().flatten(),
        reloc="pic",
        codemodel="small",
    )


def _kept_at(kernel: Kernel, llvm: Any) -> tuple[str, Path]:
    """The kernel's symbol and file, whose name follows everything that the machine code depends on."""
    import llvmlite

    module, _, function = kernel.name.partition(":")
    spec = importlib.util.find_spec(module)
    assert spec is not None and spec.origin is not None
    sources = sorted(Path(spec.origin).parent.glob("*.py"))  # kernels import only from their own folder
    digest = hashlib.sha256()
    for part in (
        *(path.read_bytes() for path in (*sources, Path(__file__))),
        repr((kernel.name, kernel.returns, kernel.arguments, llvmlite.__version__, sys.version_info[:2])).encode(),
        llvm.get_host_cpu_name().encode(),
        llvm.get_host_cpu_features().flatten().encode(),
        llvm.get_default_triple().encode(),
    ):
        digest.update(hashlib.sha256(part).digest())
    symbol = f"groundup_{function}_{digest.hexdigest()[:16]}"
    return symbol, cache_folder() / "kernels" / f"{symbol}.o"


def _compile(kernel: Kernel, symbol: str, llvm: Any) -> bytes:
    """Object code of the kernel, with the one public function ``symbol``."""
    import numba

    module, _, function = kernel.name.partition(":")
    dispatcher = getattr(importlib.import_module(module), function)
    types = {name: _numba_type(name, numba) for name in (kernel.returns, *kernel.arguments)}
    signature = types[kernel.returns](*(types[name] for name in kernel.arguments))
    dispatcher.compile(signature)
    ir = llvm.parse_assembly(dispatcher.inspect_llvm(dispatcher.signatures[0]))
    mangled = dispatcher.overloads[dispatcher.signatures[0]].fndesc.llvm_func_name
    for each in ir.functions:  # numba adds wrappers for Python objects; nobody calls them
        if each.name == mangled:
            each.name = symbol
        elif not each.is_declaration:
            each.linkage = "internal"
    machine = _machine(llvm)
    passes = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=3))
    manager = llvm.create_new_module_pass_manager()
    manager.add_global_dead_code_eliminate_pass()
    manager.run(ir, passes)
    return bytes(machine.emit_object(ir))


def _numba_type(name: str, numba: Any) -> Any:
    base = {"i64": "int64", "u64": "uint64", "u8": "uint8", "i32": "int32", "u32": "uint32"}[name.rstrip("*")]
    return numba.types.CPointer(getattr(numba.types, base)) if name.endswith("*") else getattr(numba.types, base)
