"""Where a device's time goes: CUPTI's records read, summed and told. With a device behind them: not run.

The records are bytes that a C program made with the structures of CUPTI 13.0's own header, all other bytes 0x5a.
"""

import ctypes
import struct
import sys

import pytest

from pysrn.benchmark.gpu import check, cupti, kernels
from pysrn.benchmark.gpu.cupti import Activity, activity_at
from pysrn.console import MissingError

START = 1_700_000_000_000_000_000
KERNEL = bytes.fromhex(
    "0a0000005a5a5a5a5a5a5a5a5a5a5a5a01002a36fe9c9717c5092a36fe9c97175a5a5a5a5a5a5a5a"
    "5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a"
    "5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a88776655443322115a5a5a5a5a5a5a5a"
)  # CUpti_ActivityKernel10, from START + 1 to START + 2501, its name at 0x1122334455667788
COPY = bytes.fromhex("01000000025a5a5a4d0000000000000065002a36fe9c9717c9002a36fe9c97175a5a5a5a5a5a5a5a")  # Memcpy6
FILL = bytes.fromhex("020000005a5a5a5a58000000000000002d012a36fe9c971794012a36fe9c97175a5a5a5a5a5a5a5a")  # Memset4
MANGLED = "_ZN5caffe13ForwardKernelILi4EEEvNS_7kernels7ForwardE"


def read(record):
    memory = ctypes.create_string_buffer(record, len(record))
    return activity_at(ctypes.addressof(memory))


def test_records_are_read_where_cuptis_header_has_their_numbers():
    name = ctypes.create_string_buffer(MANGLED.encode())
    pointer = struct.pack("<Q", 0x1122334455667788)
    assert KERNEL.count(pointer) == 1
    here = KERNEL.replace(pointer, struct.pack("<Q", ctypes.addressof(name)))
    assert read(here) == Activity(MANGLED, START + 1, START + 2501)
    assert read(COPY) == Activity("copy to the host", START + 101, START + 201)
    assert read(FILL) == Activity("fill memory", START + 301, START + 404)
    assert read(b"\x07" + COPY[1:]) is None


def test_the_real_cupti_walks_a_buffer_of_them():
    """The library parses without a device; it stops where the valid bytes end, and the buffer is given back."""
    try:
        library = cupti._library()
    except MissingError as error:
        pytest.skip(str(error))
    name = ctypes.create_string_buffer(MANGLED.encode())
    here = KERNEL.replace(struct.pack("<Q", 0x1122334455667788), struct.pack("<Q", ctypes.addressof(name)))
    sizes = {COPY: 96, here: 216, FILL: 88}  # of the structures in CUPTI 13.0
    records = [record.ljust(sizes[record], b"\x5a") for record in (COPY, here, FILL, here)]
    own = cupti.Cupti.__new__(cupti.Cupti)  # without a driver nothing can be asked for
    own._library, own._buffers, own._found = library, {}, []
    buffer, size, most = ctypes.c_void_p(), ctypes.c_size_t(), ctypes.c_size_t()
    own._lend(ctypes.pointer(buffer), ctypes.pointer(size), ctypes.pointer(most))
    assert buffer.value % 8 == 0 and size.value == cupti.BUFFER and len(own._buffers) == 1
    valid = b"".join(records)
    ctypes.memmove(buffer.value, valid, len(valid))
    own._take(None, 0, buffer.value, size.value, len(valid))
    assert [one.name for one in own._found] == ["copy to the host", MANGLED, "fill memory", MANGLED]
    assert not own._buffers


def test_names_are_those_of_their_authors():
    assert kernels.short_name(MANGLED) == "caffe::ForwardKernel<4>"
    assert kernels.short_name("_ZN12_GLOBAL__N_13addEPf") == "(anonymous namespace)::add"
    assert kernels.short_name("sm90_xmma_fprop") == "sm90_xmma_fprop" and kernels.short_name("_Zwrong") == "_Zwrong"
    assert len(kernels.short_name("k" * 500)) == kernels.WIDTH


def test_what_runs_at_once_counts_once_and_the_longest_comes_first():
    second = 10**9
    found = kernels.summary(
        [
            Activity("short", 4 * second, 5 * second),
            Activity("long", 0, 2 * second),
            Activity("other", second, 3 * second),  # half of it beside the one before
            Activity("long", 6 * second, 8 * second),
        ],
        rounds=2,
    )
    assert found == {"busy": 3.0, "kernels": [["long", 2.0, 1.0], ["other", 1.0, 0.5], ["short", 0.5, 0.5]]}
    assert kernels.summary([], 2) == {"busy": 0.0, "kernels": []}


def test_the_table_tells_all_of_the_time():
    many = [[f"kernel{number}", 0.001 * (40 - number), 2.0] for number in range(30)]
    lines = check.line("kernels", {"seconds": 1.0, "busy": 0.75, "kernels": many}).splitlines()
    assert lines[0] == "kernels: a step takes 1000.0 ms, the device computes 75% of it"
    assert lines[1].split() == ["40.00", "ms", "5.2%", "2.0", "x", "kernel0"]
    assert lines[-1].endswith("15 others") and len(lines) == kernels.SHOWN + 2
    shares = [float(line.split()[2].rstrip("%")) for line in lines[1:]]
    assert sum(shares) == pytest.approx(100, abs=1)
    assert not check.wrong("kernels", {"seconds": 1.0, "busy": 0.75, "kernels": many})


def test_where_cupti_is_not_it_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(cupti, "LIBRARY", "libcupti-of-nobody.so.13")
    with pytest.raises(MissingError, match="no CUPTI: libcupti-of-nobody") as caught:
        cupti.Cupti()
    assert "nvidia-cuda-cupti" in caught.value.cure
    missing = kernels.profile("srn", "resnet14", 4, 2, 0, 1)
    assert "libcupti-of-nobody" in missing["missing"] and "missing" in check.line("kernels", missing)
    beside = tmp_path / cupti.FOLDER / cupti.LIBRARY  # found in a wheel, but no library
    beside.parent.mkdir(parents=True)
    beside.write_text("none")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    with pytest.raises(MissingError, match=str(beside)):
        cupti.Cupti()


def test_the_cpu_has_no_kernels():
    assert "CPU" in kernels.profile("srn", "resnet14", 4, 2, None, 1)["missing"]
