"""How CAFFE_ENGINE's part `measured` chooses an algorithm and keeps it: the C++ itself, compiled for the host."""

import ctypes
import shutil
import subprocess
from ctypes import POINTER, Structure, byref, c_bool, c_char_p, c_int, c_size_t, c_void_p
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FMA, TF32, LIMIT = 3, 0, 1000  # cudnnMathType_t's CUDNN_FMA_MATH and CUDNN_DEFAULT_MATH; bytes
MADE, REFUSED, STEADY, UNSTEADY, ANY = 0, 3000, 1, 0, -1


class Performance(Structure):
    _fields_ = [*((name, c_int) for name in ("algo", "status", "determinism", "math")), ("memory", c_size_t)]


class Choice(Structure):
    _fields_ = [("algorithm", c_int), ("bytes", c_size_t)]


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    library = tmp_path_factory.mktemp("choice") / "host_choice.so"
    flags = ["-std=c++14", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    source = str(Path(__file__).with_name("host_choice.cpp"))
    subprocess.run(
        [shutil.which("g++"), *flags, f"-I{ROOT / 'docker/caffe/include'}", source, "-o", library], check=True
    )
    found = ctypes.CDLL(str(library))
    found.choose.argtypes = [POINTER(Performance), c_int, c_size_t, c_int]
    found.open_choices.argtypes, found.open_choices.restype = [c_char_p], c_void_p
    found.close_choices.argtypes = [c_void_p]
    found.keep_choice.argtypes, found.keep_choice.restype = [c_void_p, c_char_p, c_int, c_size_t], c_bool
    found.find_choice.argtypes, found.find_choice.restype = [c_void_p, c_char_p, POINTER(Choice)], c_bool
    return found


@pytest.fixture
def opened(host):
    """Choices of a file, as a process has them: what it looks up, and what it keeps."""
    made = []

    class Opened:
        def __init__(self, path=""):
            self._own = host.open_choices(str(path).encode())
            made.append(self._own)

        def keep(self, name, algorithm, size):
            return host.keep_choice(self._own, name.encode(), algorithm, size)

        def __getitem__(self, name):
            choice = Choice()
            return (
                (choice.algorithm, choice.bytes) if host.find_choice(self._own, name.encode(), byref(choice)) else None
            )

    yield Opened
    for one in made:
        host.close_choices(one)


@pytest.mark.parametrize(
    ("listed", "math", "taken"),
    [
        ([(7, MADE, STEADY, FMA, 10), (1, MADE, STEADY, FMA, 0)], FMA, 7),  # the fastest comes first
        ([(7, REFUSED, STEADY, FMA, 10), (1, MADE, STEADY, FMA, 0)], FMA, 1),
        ([(7, MADE, STEADY, FMA, LIMIT + 1), (1, MADE, STEADY, FMA, LIMIT)], FMA, 1),
        ([(7, MADE, UNSTEADY, FMA, 10), (1, MADE, STEADY, FMA, 0)], FMA, 1),  # the same bits each time
        ([(7, MADE, UNSTEADY, FMA, 10), (1, MADE, UNSTEADY, FMA, 0)], FMA, 7),  # where there is none such
        ([(7, MADE, STEADY, TF32, 10), (1, MADE, STEADY, FMA, 0)], FMA, 1),  # float32 stays float32
        ([(7, MADE, STEADY, TF32, 10), (1, MADE, STEADY, FMA, 0)], ANY, 7),
        ([(7, MADE, STEADY, TF32, 10)], FMA, -1),
        ([], ANY, -1),
    ],
)
def test_which_is_taken(host, listed, math, taken):
    assert host.choose((Performance * len(listed))(*listed), len(listed), LIMIT, math) == taken


def test_a_choice_is_kept_for_who_comes_later(opened, tmp_path):
    path, of = tmp_path / "choices", "forward,NVIDIA_X,91900,0,3,8x64x56x56,64x64x3x3,1x1,1x1,1x1,1"
    first = opened(path)
    assert first[of] is None and first.keep(of, 6, 2**33) and first.keep("bias", -1, 0)
    for one in (first, opened(path)):
        assert one[of] == (6, 2**33) and one["bias"] == (-1, 0) and one[of[:-1]] is None
    assert opened(path).keep(of, 1, 2) and opened(path)[of] == (1, 2)  # the last word counts


def test_without_a_file_it_lasts_as_long_as_the_process(opened):
    one = opened()
    assert one.keep("a", 1, 2) and one["a"] == (1, 2) and opened()["a"] is None


@pytest.mark.parametrize("rest", ["b 1", "b 1 23", "b 1 2 ", "b", "b 1 2 3"])
def test_a_line_that_a_kill_cut_off_does_not_count(opened, tmp_path, rest):
    path = tmp_path / "choices"
    path.write_text(f"a 1 2 .\n{rest}")
    one = opened(path)
    assert one["a"] == (1, 2) and one["b"] is None
    assert one.keep("c", 3, 4)
    again = opened(path)
    assert again["c"] == (3, 4) and again["a"] == (1, 2) and again["b"] is None


def test_a_file_that_cannot_be_written_is_told(opened, tmp_path):
    one = opened(tmp_path / "no folder" / "choices")
    assert not one.keep("a", 1, 2) and one["a"] == (1, 2)
