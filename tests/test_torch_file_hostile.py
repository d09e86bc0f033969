"""A torch file is a pickle, and a pickle is a program: none is ever run, and every fault is one ModelFileError."""

import copyreg
import io
import os
import pickle
import random
import struct
import tarfile
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from nextok.errors import ModelFileError, ModelNotFoundError
from nextok.formats.torch_file import read_torch_file
from nextok.formats.weights import read_weights
from pickles import (
    APPEND,
    BUILD,
    EMPTY_DICT,
    EMPTY_LIST,
    EMPTY_TUPLE,
    MARK,
    ORDERED_DICT,
    PERSID,
    PROTO,
    REDUCE,
    SETITEM,
    STOP,
    call,
    name,
    pickled,
    plain,
    storage,
    tensor,
    text,
    write_archive,
)


def refused(path: Path, message: str = ": .*: ") -> None:
    with pytest.raises(ModelFileError, match=message) as caught:
        read_torch_file(path)
    assert str(caught.value).startswith(f"{path.name}: ")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500


def test_what_the_tests_assemble_is_what_torch_writes(tmp_path):
    """A control: without its payload, each of the files below is read."""
    whole = np.arange(4, dtype=np.float32)
    members = {"data/0": whole.tobytes(), "version": b"3"}
    for content in ({"w": tensor()}, {"model": plain({"w": tensor()}), "step": 3}):
        found = read_torch_file(write_archive(tmp_path / "m.pth", pickled(content), members))
        assert found["w"].to_float32().tolist() == whole.tolist()
    found = read_torch_file(write_archive(tmp_path / "m.pth", pickled({"w": tensor((2,), (1,), 2)}), members))
    assert found["w"].to_float32().tolist() == [2, 3]
    found = read_torch_file(write_archive(tmp_path / "m.pth", pickled({"w": tensor((2, 2), (2, 1))}), members))
    assert found["w"].to_float32().tolist() == [[0, 1], [2, 3]]


# --- programs -------------------------------------------------------------------------------------------------------

TOUCH = "open({!r}, 'w').close()"


def shell(canary: Path) -> str:
    return f"echo x > '{canary}'"


def code(canary: Path) -> str:
    return TOUCH.format(str(canary))


def system(canary: Path) -> bytes:
    return call(name("os", "system"), shell(canary))


def run_here(canary: Path) -> bytes:
    return call(name("builtins", "exec"), code(canary))


def chain(canary: Path) -> bytes:
    module = call(name("builtins", "__import__"), "os")
    return call(call(name("builtins", "getattr"), module, "system"), shell(canary))


def partial(canary: Path) -> bytes:
    return call(call(name("functools", "partial"), name("os", "system"), shell(canary)))


def state_of_partial(canary: Path) -> bytes:
    """An innocent partial whose `__setstate__` makes it another one."""
    state = plain((name("os", "system"), (shell(canary),), {}, None))
    return call(name("functools", "partial"), name("builtins", "len")) + state + BUILD + EMPTY_TUPLE + REDUCE


def through_map(canary: Path) -> bytes:
    """NEWOBJ alone: `bytes` walks over a `map`, which calls."""
    inner = EMPTY_LIST + text(code(canary)) + APPEND
    mapped = name("builtins", "map") + plain((name("builtins", "exec"), inner)) + b"\x81"
    return name("builtins", "list") + plain((mapped,)) + REDUCE


def nested_pickle(canary: Path) -> bytes:
    inner = PROTO + system(canary) + STOP
    data = call(name("_codecs", "encode"), inner.decode("latin1"), "latin1")
    return call(name("pickle", "loads"), data)


def remembered(canary: Path) -> bytes:
    """The function is put aside, and called much later."""
    return name("os", "system") + b"q\x05" + b"0" + plain({"a": 1}) + b"0" + call(b"h\x05", shell(canary))


def extension(canary: Path) -> bytes:
    return call(b"\x82\x63", shell(canary))


def instance(canary: Path) -> bytes:
    return MARK + text(shell(canary)) + b"ios\nsystem\n"


def object_of_class(canary: Path) -> bytes:
    return MARK + name("os", "system") + text(shell(canary)) + b"o"


def by_stack(module: str, attribute: str, *arguments: str) -> bytes:
    return call(text(module) + text(attribute) + b"\x93", *arguments)


def protocol_0(canary: Path) -> bytes:
    return f"cos\nsystem\n(S{shell(canary)!r}\ntR".encode()


PAYLOADS = {
    "os.system": system,
    "posix.system": lambda canary: call(name("posix", "system"), shell(canary)),
    "exec": run_here,
    "eval": lambda canary: call(name("builtins", "eval"), code(canary)),
    "eval by Python 2's name": lambda canary: call(name("__builtin__", "eval"), code(canary)),
    "open": lambda canary: call(name("builtins", "open"), str(canary), "w"),
    "io.open": lambda canary: call(name("io", "open"), str(canary), "w"),
    "__import__ and getattr": chain,
    "subprocess.check_output": lambda canary: call(name("subprocess", "check_output"), ("touch", str(canary))),
    "subprocess.run": lambda canary: call(name("subprocess", "run"), ("touch", str(canary))),
    "os.mkdir": lambda canary: call(name("os", "mkdir"), str(canary)),
    "functools.partial": partial,
    "__setstate__ of a partial": state_of_partial,
    "map by NEWOBJ": through_map,
    "a pickle in a pickle": nested_pickle,
    "memo": remembered,
    "extension code": extension,
    "INST": instance,
    "OBJ": object_of_class,
    "STACK_GLOBAL": lambda canary: by_stack("os", "system", shell(canary)),
    "dotted name": lambda canary: b"\x80\x04" + by_stack("os", "path.os.system", shell(canary)),
    "protocol 0": protocol_0,
    "timeit": lambda canary: call(name("timeit", "timeit"), "pass", code(canary), name("time", "time"), 1),
    "runpy": lambda canary: call(name("runpy", "_run_code"), code(canary), {}),
    "cProfile": lambda canary: call(name("cProfile", "run"), code(canary), str(canary)),
    "torch's own exec": lambda canary: call(
        name("torch.jit.unsupported_tensor_ops", "execWrapper"), code(canary), {}, {}
    ),
    "torch.serialization's os": lambda canary: call(
        call(name("builtins", "getattr"), name("torch.serialization", "os"), "system"), shell(canary)
    ),
    "operator": lambda canary: call(
        call(name("operator", "methodcaller"), "touch"), call(name("pathlib", "Path"), str(canary))
    ),
    "numpy's file writer": lambda canary: call(name("numpy", "save"), str(canary.with_suffix(".npy")), (1, 2)),
    "logging's file": lambda canary: call(name("logging", "FileHandler"), str(canary)),
}
PLACES = {
    "alone": lambda payload: payload,
    "as a value": lambda payload: plain({"w": payload}),
    "as a key": lambda payload: EMPTY_DICT + payload + text("x") + SETITEM,
    "in a list": lambda payload: plain({"w": tensor(), "x": EMPTY_LIST + payload + APPEND}),
    "in a tuple": lambda payload: plain({"w": tensor(), "x": (1, (2, payload))}),
    "in an ordered mapping": lambda payload: ORDERED_DICT + text("x") + payload + SETITEM,
    "in the metadata": lambda payload: ORDERED_DICT + plain({"_metadata": payload}) + BUILD,
    "in the state": lambda payload: ORDERED_DICT + payload + BUILD,
    "in a shape": lambda payload: plain({"w": tensor(shape=(payload,))}),
    "as hooks": lambda payload: plain({"w": tensor(hooks=payload)}),
    "in a storage": lambda payload: plain({"w": tensor(source=storage(length=payload))}),
    "as a storage's key": lambda payload: plain({"w": tensor(source=plain(("storage", payload)) + PERSID)}),
    "in a training checkpoint": lambda payload: plain({"model": plain({"w": tensor()}), "args": payload}),
    "under the result": lambda payload: payload + plain({"w": tensor()}),
    "dropped": lambda payload: payload + b"0" + plain({"w": tensor()}),
}


class Careless(pickle.Unpickler):
    """What a program without care does."""

    def persistent_load(self, _):
        return torch.FloatStorage(4)


def run_carelessly(data: bytes) -> None:
    copyreg.add_extension("os", "system", 99)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            Careless(io.BytesIO(data)).load()
    except Exception:  # after the harm is done
        pass
    finally:
        copyreg.remove_extension("os", "system", 99)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("payload", PAYLOADS)
def test_no_payload_is_run(payload, tmp_path):
    canaries = [tmp_path / "canary", tmp_path / "canary.npy"]
    data = PROTO + PAYLOADS[payload](canaries[0]) + STOP
    copyreg.add_extension("os", "system", 99)
    try:
        refused(write_archive(tmp_path / "m.pth", data))
        refused(write_archive(tmp_path / "m.bin", pickled({"w": tensor(), "x": data[2:-1]})))
        (tmp_path / "old.pt").write_bytes(data)
        refused(tmp_path / "old.pt", "no zip archive.*save its state dict again")
    finally:
        copyreg.remove_extension("os", "system", 99)
    assert not any(canary.exists() for canary in canaries)
    run_carelessly(data)
    assert any(canary.exists() for canary in canaries)  # so the payload does what it is said to do


@pytest.mark.parametrize("place", PLACES)
def test_a_payload_is_found_wherever_it_hides(place, tmp_path):
    canary = tmp_path / "canary"
    for payload in (system, chain, partial):
        data = PROTO + PLACES[place](payload(canary)) + STOP
        refused(write_archive(tmp_path / "m.pth", data), "names 'os.system'|names 'builtins|names 'functools")
        assert not canary.exists()
        run_carelessly(data)
        assert canary.exists()
        canary.unlink()


@pytest.mark.parametrize("number", range(256))
def test_no_name_of_torch_or_python_is_called_but_three(number, tmp_path):
    """Everything that torch's own reader would allow, and more: most of it makes memory, or objects of many kinds."""
    names = sorted(torch._weights_only_unpickler._get_allowed_globals())
    names += [
        "builtins.bytearray",
        "torch.load",
        "torch.hub.load",
        "torch.jit.load",
        "numpy.core.multiarray._reconstruct",
    ]
    names += ["numpy._core.multiarray.scalar", "copyreg._reconstructor", "copyreg.__newobj__", "argparse.Namespace"]
    names += ["torch._utils._rebuild_tensor", "torch.nn.modules.linear.Linear", "__main__.ModelConfig"]
    for full in names[number::256]:
        module, _, attribute = full.rpartition(".")
        allowed = full.endswith(("Storage", ".OrderedDict", "._rebuild_parameter", "._rebuild_tensor_v2"))
        for arguments in ((10**11,), ((10**6, 10**6),), (b"}",), ()):
            data = pickled({"w": tensor(), "x": call(name(module, attribute), *arguments)})
            if full == "collections.OrderedDict" and not arguments:
                refused(write_archive(tmp_path / "m.pth", data), "'x' is a mapping, no tensor")
            else:
                refused(write_archive(tmp_path / "m.pth", data), "names|calls" if allowed else "names")


STACKS = {
    "nothing": b"",
    "no STOP": PROTO + plain({"w": tensor()}),
    "STOP at once": STOP,
    "no protocol, payload of a later one": b"\x80\x05\x95" + struct.pack("<Q", 3) + b"N.",
    "protocol 255": b"\x80\xff" + plain({"w": tensor()}) + STOP,
    "takes from an empty stack": PROTO + REDUCE + STOP,
    "a tuple without a mark": PROTO + b"t" + STOP,
    "a mark as the result": PROTO + MARK + STOP,
    "sets an item of a number": PROTO + plain(1) + plain("a") + plain("b") + SETITEM + STOP,
    "appends to a mapping": PROTO + EMPTY_DICT + plain("a") + APPEND + STOP,
    "half an item": PROTO + EMPTY_DICT + MARK + plain("a") + b"u" + STOP,
    "memo that was never put": PROTO + b"h\x07" + STOP,
    "puts aside what is not there": PROTO + b"q\x00" + STOP,
    "unknown instruction": PROTO + b"\xfe" + STOP,
    "text of 4 GB": PROTO + b"X\xff\xff\xff\xffabc" + STOP,
    "text of 16 EB": PROTO + b"\x8d" + b"\xff" * 8 + STOP,
    "number of 2 GB": PROTO + b"\x8b\xff\xff\xff\x7f" + STOP,
    "number of 255 bytes": PROTO + b"\x8a\xff" + b"\x7f" * 255 + STOP,
    "bytes": PROTO + b"C\x01x" + STOP,
    "a set": PROTO + b"\x8f" + STOP,
    "text that is no UTF-8": PROTO + b"X\x02\0\0\0\xff\xff" + STOP,
    "a name without an end": PROTO + b"cos\nsystem",
    "a name that is no ASCII": PROTO + "cös\nsystem\n".encode() + STOP,
    "a tuple as a key": PROTO + EMPTY_DICT + plain((1, 2)) + plain(1) + SETITEM + STOP,
    "a list as a key": PROTO + EMPTY_DICT + EMPTY_LIST + plain(1) + SETITEM + STOP,
    "slots": PROTO + ORDERED_DICT + plain((None, {"keys": 1})) + BUILD + STOP,
    "a method replaced": PROTO + ORDERED_DICT + plain({"items": 1}) + BUILD + STOP,
    "a state for a tensor": PROTO + tensor() + plain((1, 2)) + BUILD + STOP,
    "only a tensor": PROTO + tensor() + STOP,
    "an empty mapping": pickled({}),
    "a mapping of mappings": pickled({"a": {"w": tensor()}}),
    "a number among tensors": pickled({"w": tensor(), "step": 3}),
    "a number as a name": pickled({1: tensor()}),
    "a line break in a name": pickled({"a\nb": tensor()}),
    "half a character in a name": PROTO + EMPTY_DICT + b"X\x03\0\0\0\xed\xa0\x80" + tensor() + SETITEM + STOP,
    "a name of 2,000 letters": pickled({"a" * 2000: tensor()}),
    "a name of 100,000 letters": pickled({"a" * 100_000: tensor()}),
    "65,537 names": pickled({f"w{i}": i for i in range(65_537)}),
    "nested deep": PROTO + b"]" * 100_000 + b"a" * 99_999 + STOP,
    "tuples that double": PROTO + b"N" + b"2\x86" * 60 + STOP,
    "a mapping that holds itself": PROTO + EMPTY_DICT + b"q\x00" + text("a") + b"h\x00" + SETITEM + STOP,
    "a persistent id that is text": PROTO + text("storage") + PERSID + STOP,
    "a persistent id by line": PROTO + b"P0\n" + STOP,
    "another persistent id": pickled({"w": tensor(source=storage(word="module"))}),
    "a storage that is a path": pickled({"w": tensor(source=storage(key="../../etc/passwd"))}),
    "a storage of text": pickled({"w": tensor(source=storage(length="4"))}),
    "a storage of a class unknown": pickled({"w": tensor(source=storage(kind=name("torch", "QInt8Storage")))}),
    "a storage that is no class": pickled({"w": tensor(source=storage(kind=plain("FloatStorage")))}),
    "a storage that is a function": pickled(
        {"w": tensor(source=storage(kind=name("torch._utils", "_rebuild_parameter")))}
    ),
}


@pytest.mark.parametrize("case", STACKS)
def test_broken_and_odd_pickles_are_refused(case, tmp_path):
    refused(write_archive(tmp_path / "m.pth", STACKS[case]))


TENSORS = {
    "stride 0": (tensor((1 << 20, 1 << 20), (0, 0)), "expanded"),
    "stride 0 in one": (tensor((1 << 40, 4), (0, 1)), "expanded"),
    "overlapping rows": (tensor((2, 3), (1, 1)), "expanded"),
    "turned": (tensor((2, 2), (1, 2)), r"contiguous\(\)"),
    "beyond the end": (tensor((5,), (1,)), "takes 5 values out of 4"),
    "begins beyond the end": (tensor((1,), (1,), 4), "takes 5 values"),
    "begins before": (tensor((1,), (1,), -1), "negative"),
    "negative size": (tensor((-4,), (1,)), "negative"),
    "negative stride": (tensor((4,), (-1,)), "negative"),
    "more values than 64 bits": (tensor((1 << 62, 1 << 62), (1 << 62, 1)), "takes"),
    "no dimension": (tensor((), ()), r"its shape is \(\)"),
    "no values": (tensor((0, 4), (4, 1)), r"its shape is \(0, 4\)"),
    "nine dimensions": (tensor((1,) * 9, (1,) * 9), "has the shape"),
    "fewer strides": (tensor((2, 2), (1,)), "has the shape"),
    "a size that is text": (tensor(("4",), (1,)), "has the shape"),
    "a size that is true": (tensor((True,), (1,)), "has the shape"),
    "a hook": (tensor(hooks={"a": 1}), "calls _rebuild_tensor_v2 as torch does not"),
    "storage larger than its member": (tensor(source=storage(length=5)), "20 bytes, which is of 16"),
    "storage of 4 EB": (tensor(source=storage(length=1 << 60)), "which is of 16"),
    "storage smaller than its member": (tensor((3,), source=storage(length=3)), "12 bytes, which is of 16"),
    "storage that is not there": (tensor(source=storage(key="1")), "not there"),
    "storage of negative length": (tensor(source=storage(length=-4)), "storage that torch does not write"),
    "numbers of 64 bits": (tensor((2,), source=storage(length=2, kind=name("torch", "LongStorage"))), "type is long"),
    "doubles": (tensor((2,), source=storage(length=2, kind=name("torch", "DoubleStorage"))), "type is double"),
    "quantised": (
        call(name("torch._utils", "_rebuild_qtensor"), storage(), 0, (4,), (1,), (1,), False, ORDERED_DICT),
        "names",
    ),
    "sparse": (call(name("torch._utils", "_rebuild_sparse_tensor"), 0, (tensor(), tensor(), (4,))), "names"),
    "meta": (call(name("torch._utils", "_rebuild_meta_tensor_no_storage"), 1, (1 << 40,), (1,), False), "names"),
    "parameter of no tensor": (call(name("torch._utils", "_rebuild_parameter"), 3, True, ORDERED_DICT), "calls"),
}


@pytest.mark.parametrize("case", TENSORS)
def test_tensors_that_are_not_dense_or_not_there_are_refused(case, tmp_path):
    data, message = TENSORS[case]
    refused(write_archive(tmp_path / "m.pth", pickled({"w": data})), message)


def test_one_storage_cannot_stand_for_many_tensors(tmp_path):
    """A file of some kilobytes that would be gigabytes as float32 in memory."""
    content = {f"layers.{i}.attention.wq.weight": tensor((16384,), source=storage(length=16384)) for i in range(200)}
    path = write_archive(tmp_path / "m.pth", pickled(content), {"data/0": bytes(65536)})
    refused(path, "take 13,107,200 bytes out of a file of")


# --- archives -------------------------------------------------------------------------------------------------------

GOOD = pickled({"w": tensor()})
DATA = {"data/0": bytes(16)}


def entry(name: str, *, linked: bool = False) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    if linked:
        info.external_attr = 0o120777 << 16
    return info


def archive_of(path: Path, *members: tuple[zipfile.ZipInfo | str, bytes], how: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", how) as archive:
        for info, data in members:
            archive.writestr(info, data)
    return path


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("m/../../canary", "has a member"),
        ("../canary", "not one folder|has a member"),
        ("/canary", "not one folder"),
        ("m/code/__torch__.py", "TorchScript"),
        ("m/constants.pkl", "TorchScript"),
        ("m/data/0\0.txt", "has a member|another name|not one folder"),
        ("m/data/x", "has a member"),
        ("m/data/0/1", "has a member"),
        ("other/data/1", "not one folder"),
        ("m/", "has a member"),
    ],
)
def test_members_that_torch_does_not_write_are_refused(name, message, tmp_path):
    path = archive_of(tmp_path / "m.pth", ("m/data.pkl", GOOD), ("m/data/0", bytes(16)), (name, b"x"))
    refused(path, message)
    assert not (tmp_path / "canary").exists()
    assert not (tmp_path.parent / "canary").exists()


def test_links_are_not_followed(tmp_path):
    (tmp_path / "secret").write_bytes(bytes(16))
    link = entry("m/data/0", linked=True)
    refused(
        archive_of(tmp_path / "m.pth", ("m/data.pkl", GOOD), (link, str(tmp_path / "secret").encode())), "which is of"
    )
    (tmp_path / "zero.pth").symlink_to("/dev/zero")
    refused(tmp_path / "zero.pth", "folder or a device")
    (tmp_path / "round.pth").symlink_to(tmp_path / "round.pth")
    refused(tmp_path / "round.pth", "cannot read it")
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "pytorch_model.bin").symlink_to(tmp_path / "secret")
    with pytest.raises(ModelFileError, match="link to a place outside"):
        read_weights(folder)


def test_a_torch_that_reads_another_thing_is_not_believed(tmp_path, monkeypatch):
    path = write_archive(tmp_path / "m.pth", GOOD, {**DATA, "version": b"3"})
    read_torch_file(path)
    for other in (
        3,
        [],
        {},
        {"w": 1},
        {"w": torch.zeros(5)},
        {"w": torch.zeros(4).half()},
        {"w": torch.zeros(8)[::2]},
    ):
        monkeypatch.setattr(torch, "load", lambda *_, other=other, **__: other)
        refused(path, "another one for torch")


def test_a_member_goes_by_one_name(tmp_path, monkeypatch):
    """Python 3.13 lets a field beside the name replace it; torch does not, and would read the other pickle."""
    decoded = zipfile.ZipInfo._decodeExtra

    def decode_as_later(info, *rest):
        decoded(info, *rest)
        if info.extra[:2] == b"up":
            info.filename = info.extra[9:].decode()

    monkeypatch.setattr(zipfile.ZipInfo, "_decodeExtra", decode_as_later)
    members = []
    for raw, other, data in (
        ("m/data.pkl", "m/data/7", PROTO + system(tmp_path / "canary") + STOP),
        ("m/data/7", "m/data.pkl", GOOD),
    ):
        info = zipfile.ZipInfo(raw)
        info.extra = struct.pack("<2sHBI", b"up", 5 + len(other), 1, zlib.crc32(raw.encode())) + other.encode()
        members.append((info, data))
    refused(archive_of(tmp_path / "m.pth", *members, ("m/data/0", bytes(16)), ("m/version", b"3")), "two names")


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_file_that_is_exchanged_meanwhile_is_not_believed(when, tmp_path, monkeypatch):
    path = write_archive(tmp_path / "m.pth", GOOD, {**DATA, "version": b"3"})
    other = write_archive(tmp_path / "n.pth", GOOD, {"data/0": bytes(range(16)), "version": b"3"})
    load = torch.load

    def exchanged(*arguments, **options):
        if when == "before":
            os.replace(other, path)
        found = load(*arguments, **options)
        if when == "after":
            os.replace(other, path)
        return found

    monkeypatch.setattr(torch, "load", exchanged)
    refused(path, "was changed while it was read: load it again")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_archives_that_say_two_things_are_refused(tmp_path):
    path = tmp_path / "m.pth"
    evil = PROTO + system(tmp_path / "canary") + STOP
    refused(archive_of(path, ("m/data.pkl", GOOD), ("m/data/0", bytes(16)), ("m/data.pkl", evil)), "not one folder")
    data = write_archive(path, GOOD, DATA).read_bytes()
    at = data.index(b"m/data.pkl")
    path.write_bytes(data[:at] + b"m/data.pkx" + data[at + 10 :])
    refused(path, "another name in its place")
    path.write_bytes(b"junk" + data)
    refused(path, "no zip archive")
    path.write_bytes(b"PK" + data)
    refused(path, "not where it should be")
    path.write_bytes(write_archive(tmp_path / "n.pth", evil, DATA).read_bytes() + data)
    refused(path, "not where it should be")
    path.write_bytes(data + data)
    refused(path, "not where it should be")
    path.write_bytes(data + b"\0")
    refused(path, "does not end as a zip")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/data.pkl", GOOD)
        archive.comment = b"PK\5\6" + bytes(18)
    refused(path)
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("how", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_bombs_are_not_unpacked(how, tmp_path):
    path = archive_of(tmp_path / "m.pth", ("m/data.pkl", GOOD), ("m/data/0", bytes(64 << 20)), how=how)
    assert path.stat().st_size < 1 << 20
    refused(path, "compressed")
    data = bytearray(write_archive(path, GOOD, DATA).read_bytes())
    at = data.rindex(b"PK\1\2")
    data[at + 20 : at + 28] = struct.pack("<II", 1 << 30, 1 << 30)
    path.write_bytes(data)
    refused(path, "overlaps another one, or the end")
    where = struct.pack("<I", 0)
    data = bytearray(write_archive(path, GOOD, DATA).read_bytes())
    data[data.rindex(b"PK\1\2") + 42 :][:4] = where
    at = data.rindex(b"PK\1\2")
    data[at + 42 : at + 46] = where
    path.write_bytes(data)
    refused(path, "another name in its place")


def test_encrypted_and_big_endian_files_are_refused(tmp_path):
    path = write_archive(tmp_path / "m.pth", GOOD, {**DATA, "byteorder": b"big"})
    refused(path, "big-endian")
    data = bytearray(write_archive(path, GOOD, DATA).read_bytes())
    data[data.rindex(b"PK\1\2") + 8] |= 1
    path.write_bytes(data)
    refused(path, "encrypted")


def test_many_members_are_refused_by_their_number(tmp_path):
    path = tmp_path / "m.pth"
    archive_of(path, *((f"m/data/{number}", b"") for number in range(70_000)))
    refused(path, "70,000 members|too long")


def test_files_of_other_kinds_are_refused(tmp_path):
    path = tmp_path / "m.pth"
    for data, message in [
        (b"", "empty"),
        (b"P", "no zip"),
        (b"PK\5\6" + bytes(18), "not one folder|data.pkl is missing"),
        (b"GGUF" + bytes(100), "no zip"),
        (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", "no zip"),  # torch before 1.6
    ]:
        path.write_bytes(data)
        refused(path, message)
    with tarfile.open(path, "w") as archive:  # torch before 0.4
        info = tarfile.TarInfo("pickle")
        info.size = len(GOOD)
        archive.addfile(info, io.BytesIO(GOOD))
    refused(path, "no zip archive")
    with pytest.raises(ModelFileError, match="folder or a device"):
        read_torch_file(tmp_path)
    with pytest.raises(ModelNotFoundError):
        read_torch_file(tmp_path / "absent.pth")
    path.unlink()
    os.mkfifo(path)
    refused(path, "folder or a device")


def test_a_program_of_torchscript_is_refused(tmp_path):
    module = torch.nn.Linear(2, 2)
    path = tmp_path / "m.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.trace(module, torch.zeros(1, 2)).save(str(path))
    refused(path, "TorchScript|compressed|not one folder")


@pytest.mark.parametrize("payload", ["a module", "an optimizer alone", "numpy", "a dataclass"])
def test_what_people_save_besides_state_dicts_is_refused_with_the_fix(payload, tmp_path):
    module = torch.nn.Linear(2, 2)
    things = {
        "a module": module,
        "numpy": {"w": np.zeros(3)},
        "a dataclass": {"w": module.weight, "o": torch.device("cpu")},
    }
    torch.save(things.get(payload, torch.optim.AdamW(module.parameters()).state_dict()), tmp_path / "m.pth")
    refused(tmp_path / "m.pth", r"save model\.state_dict\(\) alone")


# --- damage ---------------------------------------------------------------------------------------------------------


def whole(path: Path) -> bytes:
    state = torch.nn.Linear(3, 2).state_dict()
    torch.save(state, path)
    assert {name: each.to_float32().tolist() for name, each in read_torch_file(path).items()} == {
        name: each.tolist() for name, each in state.items()
    }
    return path.read_bytes()


def test_a_truncated_file_is_refused_at_every_length(tmp_path):
    path = tmp_path / "m.pth"
    data = whole(path)
    for length in range(1, len(data)):
        path.write_bytes(data[:length])
        refused(path)


def read_or_refused(path: Path) -> bool:
    """Whether it was read; whatever else happens is a failure."""
    try:
        found = read_torch_file(path)
    except ModelFileError:
        return False
    assert all(np.isfinite(each.to_float32()).size for each in found.values())
    return True


def test_mutants_are_read_or_refused(tmp_path):
    path = tmp_path / "m.pth"
    data = whole(path)
    chance = random.Random(1)
    read = 0
    for _ in range(1500):
        mutant = bytearray(data)
        for _ in range(chance.choice((1, 1, 1, 2, 8))):
            mutant[chance.randrange(len(mutant))] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))
        path.write_bytes(mutant)
        read += read_or_refused(path)
    assert 0 < read < 1500


def test_mutant_pickles_are_read_or_refused(tmp_path):
    path = tmp_path / "m.pth"
    whole(path)
    with zipfile.ZipFile(path) as archive:
        members = {info.filename.partition("/")[2]: archive.read(info) for info in archive.infolist()}
    data = members.pop("data.pkl")
    chance = random.Random(2)
    read = 0
    for _ in range(1500):
        mutant = bytearray(data)
        at = chance.randrange(len(mutant))
        kind = chance.randrange(3)
        if kind == 0:
            mutant[at] = chance.randrange(256)
        elif kind == 1:
            del mutant[at : at + chance.randrange(1, 9)]
        else:
            start = chance.randrange(len(mutant))
            mutant[at:at] = mutant[start : start + chance.randrange(1, 40)]
        read += read_or_refused(write_archive(path, bytes(mutant), members))
    assert 0 < read < 1500
