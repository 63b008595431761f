"""Compiled kernels on disk: what makes them stale, and what may be wrong with the disk."""

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

import fastnorm
from fastnorm import _cache, _warmup

PACKAGE = Path(fastnorm.__file__).parent


def run(program, cache, *, package=PACKAGE, **environment):
    """What a new process prints, warnings being errors unless it says otherwise."""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(cache)} | environment
    program = f"import sys; sys.path.insert(0, {str(package.parent)!r})\n" + textwrap.dedent(program)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


# Notes the names of what is compiled.
NOTING = """
    from fastnorm import _cache
    compiled, keep = [], _cache.DiskCache.save_overload
    _cache.DiskCache.save_overload = lambda own, *what: (compiled.append(own._name), keep(own, *what))
"""

# A kernel that compiles in seconds: inference. Prints whether it was compiled, and a result.
INFERENCE = f"""
    import numpy as np, fastnorm
    {NOTING}
    x = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    one = np.ones(2, np.float32)
    y = fastnorm.batch_norm(x, one, one, eps=0)
    assert np.array_equal(y, x - 1), y
    print(compiled.count("kernels.rows.forward.apply"))
"""


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A cache that has the kernel."""
    cache = tmp_path_factory.mktemp("filled")
    assert run(INFERENCE, cache) == "1"
    return cache


def test_what_is_kept_is_loaded(filled):
    assert run(INFERENCE, filled) == "0"


def test_what_a_kernel_is_made_of_makes_it_stale(tmp_path):
    """Another source of what it calls, as a newer version has: then it is compiled anew, and the old one is gone."""
    package = tmp_path / "fastnorm"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    run(INFERENCE, tmp_path / "cache", package=package)
    files = set(tmp_path.rglob("*.nbc"))
    source = package / "kernels" / "apply.py"
    text = source.read_text()
    changed = text.replace("return fma(x - high, scale, shift)", "return fma(x - high, scale, shift) - high")
    assert changed != text
    source.write_text(changed)
    shifted = INFERENCE.replace("x - 1)", "x - 2)")
    assert run(shifted, tmp_path / "cache", package=package) == "1"
    assert files.isdisjoint(tmp_path.rglob("*.nbc"))


def test_a_cache_that_is_only_read_is_used(filled):
    """As in an image with a read-only disk."""
    unwritable = """
    import fastnorm._cache
    def refuse(path, content):
        raise OSError(30, "Read-only file system")
    fastnorm._cache._write = refuse
    """
    assert run(textwrap.dedent(unwritable) + textwrap.dedent(INFERENCE), filled) == "0"


@pytest.mark.parametrize("where", ["a file in its place", "a full disk"])
def test_without_a_place_to_keep_them_a_call_works_and_warns_once(tmp_path, where):
    (tmp_path / "file").touch()
    full = """
    def refuse(path, content):
        raise OSError(28, "No space left on device")
    fastnorm._cache._write = refuse
    """
    prepare = f"""
    import warnings, fastnorm._cache
    caught = warnings.catch_warnings(record=True)
    seen = caught.__enter__()
    warnings.simplefilter("always")
    {full if where == "a full disk" else ""}
    """
    tell = """
    fastnorm.batch_norm(x.astype(np.float64), one, one)
    assert len(seen) == 1 and "NUMBA_CACHE_DIR" in str(seen[0].message), seen
    """
    program = "".join(map(textwrap.dedent, (prepare, INFERENCE, tell)))
    cache = tmp_path if where == "a full disk" else tmp_path / "file" / "cache"
    assert run(program, cache) == "1"


def test_damaged_files_are_replaced(filled, tmp_path):
    cache = tmp_path / "cache"
    shutil.copytree(filled, cache)
    for i, file in enumerate(sorted(cache.rglob("*.nbc"))):
        content = file.read_bytes()
        file.write_bytes((b"", content[:100], b"\0" * 100)[i % 3])
    assert run(INFERENCE, cache) == "1"
    assert run(INFERENCE, cache) == "0"


def test_another_processor_has_its_own(filled, tmp_path):
    cache = tmp_path / "cache"
    shutil.copytree(filled, cache)
    other = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}
    assert run(INFERENCE, cache, **other) == "1"
    assert run(INFERENCE, cache, **other) == run(INFERENCE, cache) == "0"


def test_processes_that_fill_it_at_once_do_not_mix_it_up(tmp_path):
    dtypes = "float32", "float64"
    program = f"import sys; sys.path.insert(0, {str(PACKAGE.parent)!r})\nfrom fastnorm._warmup import Part\n"
    running = [
        subprocess.Popen(
            [sys.executable, "-c", program + f"Part('columns', 'inference', {dtype!r}).compile()"],
            env=os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)},
        )
        for dtype in dtypes * 2
    ]
    assert [process.wait(300) for process in running] == [0] * 4
    check = f"""
    import numpy as np, fastnorm
    {NOTING}
    for dtype in (np.float32, np.float64):
        x = np.arange(6, dtype=dtype).reshape(2, 3)
        one = np.ones(3, np.float32)
        assert np.array_equal(fastnorm.batch_norm(x, one, one, eps=0), x - 1)
    print(len(compiled))
    """
    assert run(check, tmp_path) == "0"
    assert not [file for file in tmp_path.rglob("*") if file.is_file() and file.suffix != ".nbc"]


# -- Warming up ----------------------------------------------------------------------------------------------------


# Calls of every classic norm after a warmup. Prints what was compiled for them.
WARM = f"""
    import numpy as np, fastnorm
    from itertools import product
    {NOTING}
    kept = fastnorm.warmup(dtypes=[DTYPE])
    assert kept.files > 0 and kept.size > 0 and kept.directory.is_dir()
    compiled.clear()
    ones = [np.ones(shape, np.float32).astype(np.dtype(DTYPE)) for shape in ((4, 6, 5, 5), (64, 64, 2, 2))]
    for x, layout in product(ones, ("NCHW", "NHWC")):  # many small images take another way than few
        c = x.shape[layout.index("C")]
        w = np.ones(c, x.dtype)
        mean, var = np.zeros(c, np.float32), np.ones(c, np.float32)
        for training in (False, True):
            fastnorm.batch_norm(x, mean, var, w, w, training=training, layout=layout)
        for name, groups in (("batch_norm", ()), ("instance_norm", ()), ("group_norm", (1,))):
            found = getattr(fastnorm, name)(x, *groups, weight=w, layout=layout, return_stats=True)
            getattr(fastnorm, f"{{name}}_backward")(x, x, *groups, *found[1:], w, layout=layout)
        for axis in (-1, layout.index("C")):
            fastnorm.add_layer_norm(x, x, axis=axis)
            _, *statistics = fastnorm.rms_norm(x, axis=axis, return_stats=True)
            fastnorm.rms_norm_backward(x, x, *statistics, axis=axis)
    print(compiled)
"""


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_after_a_warmup_nothing_is_compiled(dtype, tmp_path):
    """In a cache of its own: in one that other tests have filled, what it forgets is there."""
    assert run(WARM.replace("DTYPE", repr(dtype)), tmp_path) == "[]"


def test_only_what_is_asked_for_is_compiled():
    def chosen(*arguments):
        return [str(part) for part in _warmup.parts(*arguments)]

    assert chosen(["layer_norm"], ["float32"], []) == ["rows forward float32", "rows backward float32"]
    assert chosen(["batch_norm"], ["float64"], ["NHWC"]) == [
        "columns forward float64",
        "columns inference float64",
        "columns backward float64",
    ]
    assert chosen(["instance_norm"], ["float32"], ["NCHW"])[0] == "rows forward float32"
    assert chosen(["add_rms_norm"], ["float32"], ["NCHW"]) == [
        "rows forward float32",
        "columns forward float32",
    ]
    assert len(chosen(None, ["float32"], None)) == 6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"norms": ["LayerNorm"]}, "norms has 'LayerNorm', expected some of layer_norm, rms_norm"),
        ({"dtypes": ["int8"]}, "dtypes has 'int8', expected some of float32"),
        ({"layouts": ["HWC"]}, 'layout is "HWC"'),
    ],
)
def test_wrong_names_are_told(arguments, message):
    with pytest.raises(ValueError, match=message):
        fastnorm.warmup(**arguments)


def test_installations_keep_apart():
    assert len({directory.name for directory in _cache.directories()} - {"__pycache__"}) == 1


def test_interpreters_that_share_a_directory_have_files_of_their_own(filled, tmp_path):
    """Compiled code calls the interpreter that compiled it, and one version's must not end another's."""
    cache, tag = tmp_path / "cache", sys.implementation.cache_tag
    shutil.copytree(filled, cache)
    others = [
        file.rename(file.with_name(file.name.replace(tag, "cpython-39"))) for file in cache.rglob("*.nbc")
    ]
    assert others
    assert run(INFERENCE, cache) == "1"
    assert all(file.exists() for file in others)
    assert run(INFERENCE, cache) == "0"


FIRST_CALLS = [
    "layer_norm(x)",
    "instance_norm(x, lengths=np.array([2, 4]), layout='NCL')",
    "batch_norm(x, None, None, training=True, lengths=np.array([2, 4]), layout='NCL')",
    "instance_norm(x.reshape(6, 4), cu_seqlens=np.array([0, 2, 6], np.int32))",
    "Moments().update(x)",
    "local_response_norm(x, 3)",
    "weight_norm(x, x[:, :1, :1])",
]


@pytest.mark.parametrize("call", FIRST_CALLS)
def test_any_call_may_be_the_first(call):
    """Of a process that finds all compiled: what is loaded is linked to the threading layer, which must be there by then."""
    for _ in range(2):
        run(
            f"import numpy as np, fastnorm\nx = np.ones((2, 3, 4), np.float32)\nfastnorm.{call}",
            os.environ.get("NUMBA_CACHE_DIR", ""),
        )
