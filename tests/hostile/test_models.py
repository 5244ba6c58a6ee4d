"""Model files that mean harm: each is refused with its reason, imported or served."""

import bz2
import gzip
import io
import json
import pickle
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import joblib
import lightgbm
import numpy as np
import onnx
import pytest
import skops.io
import xgboost
from onnx import TensorProto, helper
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC

from tests.hostile.actions import import_file, package, read_samples, serve
from tests.hostile.conftest import Attempt, Home

_X = np.random.default_rng(1).random((120, 3))
_Y = np.arange(120) % 3


class Pwned:
    """Leaves a mark where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return (eval, (f"open({str(self.mark)!r}, 'w').close()",))


def _gadget(mark: Path) -> object:
    return Pwned(mark)


def _memo_bomb(_: Path) -> bytes:
    """A list that doubles fifty times through the memo."""
    return b"\x80\x04]\x94(h\x00h\x00e" * 50 + b"."


_PICKLES: dict[str, tuple[str, Callable[[Path], bytes]]] = {
    "plain": ("m.pkl", lambda mark: pickle.dumps(_gadget(mark))),
    "protocol 0": ("m.pkl", lambda mark: pickle.dumps(_gadget(mark), 0)),
    "nested": ("m.pkl", lambda mark: pickle.dumps({"model": [{"step": _gadget(mark)}]})),
    "pickle in a pickle": ("m.pkl", lambda mark: pickle.dumps(pickle.dumps(_gadget(mark)))),
    "memo": ("m.pkl", _memo_bomb),
    "joblib": ("m.joblib", lambda mark: _joblib(_gadget(mark), 0)),
    "compressed joblib": ("m.joblib", lambda mark: _joblib(_gadget(mark), 3)),
    "gzip bomb": ("m.joblib", lambda mark: gzip.compress(bytes(100_000_000), 1)),
    "zlib bomb": ("m.joblib", lambda mark: zlib.compress(bytes(100_000_000), 1)),
    "bzip2 bomb": ("m.joblib", lambda mark: bz2.compress(bytes(100_000_000), 1)),
}


def _joblib(value: object, compress: int) -> bytes:
    target = io.BytesIO()
    joblib.dump(value, target, compress=compress)
    return target.getvalue()


@pytest.mark.parametrize(("name", "make"), _PICKLES.values(), ids=_PICKLES)
def test_a_pickle_is_not_opened(
    name: str, make: Callable[[Path], bytes], attempt: Attempt, home: Home, tmp_path: Path
) -> None:
    """Not even a little: it is known by its first bytes, and refused."""
    mark = tmp_path / "inner" / "pwned"
    file = tmp_path / name
    file.write_bytes(make(mark))
    ended = attempt(import_file, file, home.folder)
    assert (ended.kind, ended.code) == ("refused", "untrusted_format")
    assert not mark.exists()
    assert home.is_unchanged()


@cache
def _xgboost_json() -> dict[str, Any]:
    booster = xgboost.train(
        {"objective": "multi:softprob", "num_class": 3}, xgboost.DMatrix(_X, _Y), 2
    )
    document: dict[str, Any] = json.loads(booster.save_raw("json"))
    return document


@cache
def _xgboost_ubj() -> bytes:
    booster = xgboost.Booster(model_file=bytearray(json.dumps(_xgboost_json()).encode()))
    return bytes(booster.save_raw("ubj"))


def _model(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = document["learner"]["gradient_booster"]["model"]
    return found


def _changed(change: Callable[[dict[str, Any]], object]) -> bytes:
    document = json.loads(json.dumps(_xgboost_json()))
    change(document)
    return json.dumps(document).encode()


def _node(name: str, *values: int) -> Callable[[dict[str, Any]], object]:
    """Overwrite the first values of a list of the first tree."""

    def change(document: dict[str, Any]) -> None:
        held = _model(document)["trees"][0][name]
        held[: len(values)] = values

    return change


def _parameter(name: str, value: str) -> Callable[[dict[str, Any]], object]:
    return lambda document: document["learner"]["learner_model_param"].update({name: value})


def _tree(name: str, value: Any) -> Callable[[dict[str, Any]], object]:
    return lambda document: _model(document)["trees"][0].update({name: value})


def _categories(document: dict[str, Any]) -> None:
    tree = _model(document)["trees"][0]
    tree["split_type"][0] = 1
    tree.update(
        categories=[10**8], categories_nodes=[0], categories_segments=[0], categories_sizes=[1]
    )


_XGBOOST_JSON: dict[str, Callable[[dict[str, Any]], object]] = {
    "child outside": _node("left_children", 10**8),
    "child before": _node("left_children", -5),
    "circle": _node("left_children", 1, 0),
    "two parents": _node("left_children", 2),
    "one child": _node("left_children", -1),
    "feature outside": _node("split_indices", 10**8),
    "fraction": _tree("left_children", [0.5]),
    "text": _tree("left_children", ["a"]),
    "no list": _tree("left_children", 7),
    "short list": _tree("split_conditions", [1.0]),
    "another's number": _tree("id", 10**8),
    "nodes in thousand millions": lambda document: _model(document)["trees"][0][
        "tree_param"
    ].update(num_nodes="2000000000"),
    "negative nodes": lambda document: _model(document)["trees"][0]["tree_param"].update(
        num_nodes="-1"
    ),
    "trees in thousand millions": lambda document: _model(document)["gbtree_model_param"].update(
        num_trees="2000000000"
    ),
    "group outside": lambda document: _model(document).update(tree_info=[10**8] * 6),
    "iteration outside": lambda document: _model(document).update(
        iteration_indptr=[0, 10**6, 10**7]
    ),
    "features in thousand millions": _parameter("num_feature", "4000000000"),
    "classes in thousand millions": _parameter("num_class", "2000000000"),
    "category outside": _categories,
    "categories of nobody": _node("split_type", 1),
    "recoding outside": lambda document: _model(document).update(
        cats={"enc": [{}] * 3, "feature_segments": [0, 9, 9, 9], "sorted_idx": [10**8] * 9}
    ),
}
_XGBOOST_RAW: dict[str, Callable[[], bytes]] = {
    "deep objects": lambda: b'{"a":' * 2_000_000,
    "deep arrays": lambda: b'{"a":' + b"[" * 3_000_000,
    "deep UBJSON": lambda: b"{L" + struct.pack(">q", 1) + b"a" + b"[" * 3_000_000,
    "deep UBJSON objects": lambda: b"{" + (b"L" + struct.pack(">q", 1) + b"a{") * 1_000_000,
    "key of exabytes": lambda: b"{L" + struct.pack(">q", 2**60) + b"a",
    "key of less than nothing": lambda: b"{L" + struct.pack(">q", -1) + b"a",
    "array of exabytes": lambda: (
        b"{L" + struct.pack(">q", 1) + b"a[$d#L" + struct.pack(">q", 2**60) + b"1234"
    ),
    "array of less than nothing": lambda: (
        b"{L" + struct.pack(">q", 1) + b"a[$d#L" + struct.pack(">q", -1)
    ),
    "array of nothings": lambda: b"{L" + struct.pack(">q", 1) + b"a[$Z#L" + b"\x7f" + b"\xff" * 7,
    "key twice": lambda: json.dumps(_xgboost_json()).encode()[:-1] + b',"learner":{}}',
    "another booster": lambda: _changed(
        lambda document: document["learner"]["gradient_booster"].update(name="evil")
    ),
    "no learner": lambda: b'{"learner":null}',
    "huge number": lambda: b'{"learner":' + b"9" * 1_000_000 + b"}",
    **{
        f"UBJSON cut at {share}%": lambda share=share: _xgboost_ubj()[  # type: ignore[misc]
            : len(_xgboost_ubj()) * share // 100
        ]
        for share in range(5, 100, 10)
    },
}


def _refused(attempt: Attempt, data: bytes, name: str, format: str, folder: Path) -> set[str]:
    """The codes by which it is refused as a file and inside of a bundle."""
    file = folder / name
    file.write_bytes(data)
    ended = [attempt(package, file), attempt(serve, data, format, {})]
    assert [each.kind for each in ended] == ["refused", "refused"], ended
    return {each.code for each in ended}


@pytest.mark.parametrize("change", _XGBOOST_JSON.values(), ids=_XGBOOST_JSON)
def test_xgboost_trees_that_are_none_are_refused(
    change: Callable[[dict[str, Any]], object], attempt: Attempt, tmp_path: Path
) -> None:
    """Before its own reader, which believes them, has seen them."""
    codes = _refused(attempt, _changed(change), "m.json", "xgboost", tmp_path)
    assert codes == {"bad_trees"}


@pytest.mark.parametrize("make", _XGBOOST_RAW.values(), ids=_XGBOOST_RAW)
def test_what_is_no_xgboost_model_is_refused(
    make: Callable[[], bytes], attempt: Attempt, tmp_path: Path
) -> None:
    """Whatever it is instead."""
    codes = _refused(attempt, make(), "m.json", "xgboost", tmp_path)
    assert codes == {"bad_xgboost"}


@cache
def _lightgbm_text() -> str:
    booster = lightgbm.train(
        {"objective": "multiclass", "num_class": 3, "verbose": -1, "min_data_in_leaf": 5},
        lightgbm.Dataset(_X, _Y),
        2,
    )
    text: str = booster.model_to_string()
    return text


def _sized(text: str) -> str:
    """The text with tree sizes that are right again."""
    first, end = text.index("\nTree=") + 1, text.index("\nend of trees")
    parts = re.split(r"(?m)^(?=Tree=)", text[first : end + 1])[1:]
    sizes = " ".join(str(len(part)) for part in parts)
    return re.sub(r"(?m)^tree_sizes=.*$", f"tree_sizes={sizes}", text)


def _line(name: str, value: str) -> Callable[[str], str]:
    """Replace the first line of a name."""
    return lambda text: re.sub(rf"(?m)^{name}=.*$", f"{name}={value}", text, count=1)


def _first(name: str, value: str) -> Callable[[str], str]:
    """Replace the first value of the first line of a name."""
    return lambda text: re.sub(rf"(?m)^{name}=\S+", f"{name}={value}", text, count=1)


_LIGHTGBM: dict[str, Callable[[str], str]] = {
    "child outside": _first("left_child", "99999999"),
    "leaf outside": _first("left_child", "-99999999"),
    "circle": _first("left_child", "0"),
    "two parents": _line("left_child", "1 1"),
    "feature outside": _first("split_feature", "99999999"),
    "negative feature": _first("split_feature", "-1"),
    "categories of nobody": _first("decision_type", "1"),
    "categories in millions": _line("num_cat", "1000000"),
    "leaves in thousand millions": _line("num_leaves", "2000000000"),
    "negative leaves": _line("num_leaves", "-5"),
    "no leaves": _line("num_leaves", "0"),
    "classes in thousand millions": _line("num_class", "2000000000"),
    "features in thousand millions": _line("max_feature_idx", "2000000000"),
    "trees a turn in thousand millions": _line("num_tree_per_iteration", "1000000000"),
    "no trees a turn": _line("num_tree_per_iteration", "0"),
    "short list": _line("threshold", "0.5"),
    "overflow": _first("left_child", "9" * 40),
}


@pytest.mark.parametrize("change", _LIGHTGBM.values(), ids=_LIGHTGBM)
def test_lightgbm_trees_that_are_none_are_refused(
    change: Callable[[str], str], attempt: Attempt, tmp_path: Path
) -> None:
    """Before its own reader, which ends the process over them, has seen them."""
    data = _sized(change(_lightgbm_text())).encode()
    codes = _refused(attempt, data, "m.txt", "lightgbm", tmp_path)
    assert codes == {"bad_trees"}


@pytest.mark.parametrize("sizes", ["99999999 1 1 1 1 1", "-5 -5 -5 -5 -5 -5", "1", "", "a b"])
def test_lightgbm_sizes_that_lie_are_refused(sizes: str, attempt: Attempt, tmp_path: Path) -> None:
    """Its reader goes where they say."""
    data = _line("tree_sizes", sizes)(_lightgbm_text()).encode()
    assert _refused(attempt, data, "m.txt", "lightgbm", tmp_path) == {"bad_trees"}


def _skops(model: object, change: Callable[[dict[str, bytes]], None] = lambda _: None) -> bytes:
    """A skops file whose members were changed."""
    with zipfile.ZipFile(io.BytesIO(skops.io.dumps(model))) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    change(members)
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return target.getvalue()


def _array(change: Callable[[np.ndarray], None], holds: Callable[[np.ndarray], bool]) -> Any:
    """Change the first array of a skops file that is meant."""

    def apply(members: dict[str, bytes]) -> None:
        for name, data in members.items():
            if name.endswith(".npy"):
                array = np.load(io.BytesIO(data))
                if holds(array):
                    change(array)
                    target = io.BytesIO()
                    np.save(target, array)
                    members[name] = target.getvalue()
                    return
        raise AssertionError("there is no such array")

    return apply


def _set(field: str, value: int) -> Callable[[np.ndarray], None]:
    def change(array: np.ndarray) -> None:
        array[field][0] = value

    return change


def _has(field: str) -> Callable[[np.ndarray], bool]:
    return lambda array: field in (array.dtype.names or ())


def _forest(change: Callable[[np.ndarray], None]) -> bytes:
    forest = RandomForestClassifier(2, max_depth=3, random_state=0).fit(_X, _Y)
    return _skops(forest, _array(change, _has("left_child")))


def _boosted(change: Callable[[np.ndarray], None]) -> bytes:
    boosted = HistGradientBoostingClassifier(max_iter=2).fit(_X, _Y)
    return _skops(boosted, _array(change, _has("feature_idx")))


def _neighbours() -> bytes:
    model = KNeighborsClassifier(algorithm="kd_tree").fit(_X, _Y)

    def change(array: np.ndarray) -> None:
        array[0] = 10**9

    return _skops(
        model,
        _array(change, lambda array: array.dtype == np.int64 and sorted(array) == list(range(120))),
    )


def _vectors() -> bytes:
    def change(array: np.ndarray) -> None:
        array[0] = 10**8

    return _skops(
        SVC().fit(_X, _Y),
        _array(change, lambda array: array.dtype == np.int32 and array.shape == (3,)),
    )


_SKOPS_STATES: dict[str, Callable[[], bytes]] = {
    "child outside": lambda: _forest(_set("left_child", 10**9)),
    "child before": lambda: _forest(_set("left_child", -7)),
    "circle": lambda: _forest(_set("left_child", 0)),
    "feature outside": lambda: _forest(_set("feature", 10**9)),
    "boosted child outside": lambda: _boosted(_set("left", 2**31)),
    "boosted circle": lambda: _boosted(_set("left", 0)),
    "boosted feature outside": lambda: _boosted(_set("feature_idx", 10**9)),
    "neighbour outside": _neighbours,
    "support vectors outside": _vectors,
}


@pytest.mark.parametrize("make", _SKOPS_STATES.values(), ids=_SKOPS_STATES)
def test_a_fitted_state_that_is_none_is_refused(
    make: Callable[[], bytes], attempt: Attempt, tmp_path: Path
) -> None:
    """Compiled code would follow its indices out of its arrays."""
    assert _refused(attempt, make(), "m.skops", "skops", tmp_path) == {"bad_trees"}


def _zip(*members: tuple[str, bytes]) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return target.getvalue()


def _schema(**more: Any) -> bytes:
    return json.dumps({"protocol": 2, "_skops_version": "0.16.0", **more}).encode()


def _type(module: str, name: str) -> bytes:
    return _zip(
        (
            "schema.json",
            _schema(
                __class__=name,
                __module__=module,
                __loader__="ObjectNode",
                content=None,
                __id__=1,
            ),
        )
    )


def _lying_array() -> bytes:
    """A member that says it has a million million rows."""

    def change(members: dict[str, bytes]) -> None:
        name = next(each for each in members if each.endswith(".npy"))
        header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,), }"
        header += b" " * (63 - (len(header) + 10) % 64) + b"\n"
        members[name] = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + b"1234"

    return _skops(RandomForestClassifier(1, max_depth=2).fit(_X, _Y), change)


def _object_array() -> bytes:
    def change(members: dict[str, bytes]) -> None:
        name = next(each for each in members if each.endswith(".npy"))
        target = io.BytesIO()
        np.save(target, np.array([{"a": 1}], object), allow_pickle=True)
        members[name] = target.getvalue()

    return _skops(RandomForestClassifier(1, max_depth=2).fit(_X, _Y), change)


_SKOPS: dict[str, tuple[Callable[[], bytes], str]] = {
    "os.system": (lambda: _type("os", "system"), "untrusted_types"),
    "builtins.eval": (lambda: _type("builtins", "eval"), "untrusted_types"),
    "subprocess.Popen": (lambda: _type("subprocess", "Popen"), "untrusted_types"),
    "torch": (lambda: _type("torch.nn.modules.linear", "Linear"), "untrusted_types"),
    "bomb": (lambda: _zip(("schema.json", bytes(400_000_000))), "bad_skops"),
    "bomb of many": (
        lambda: _zip(*((f"{index}.npy", bytes(4_000_000)) for index in range(100))),
        "bad_skops",
    ),
    "bomb in a zip": (lambda: _zip(("a.npz", _zip(("b.npy", bytes(400_000_000))))), "bad_skops"),
    "zips in zips": (
        lambda: _zip(("a.npz", _zip(("a.npz", _zip(("a.npz", b"")))))),
        "bad_skops",
    ),
    "deep schema": (
        lambda: _zip(("schema.json", b'{"a":' * 100_000)),
        "bad_skops",
    ),
    "no schema": (lambda: _zip(("a", b"a")), "bad_skops"),
    "empty": (lambda: _zip(), "unknown_format"),
    "cut": (lambda: _type("os", "system")[:-30], "bad_skops"),
    "array that lies": (_lying_array, "bad_skops"),
    "array of objects": (_object_array, "bad_skops"),
}


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(("make", "code"), _SKOPS.values(), ids=_SKOPS)
def test_a_skops_file_that_means_harm_is_refused(
    make: Callable[[], bytes], code: str, attempt: Attempt, home: Home, tmp_path: Path
) -> None:
    """By the types that it names, or by what it would become."""
    file = tmp_path / "m.skops"
    file.write_bytes(make())
    ended = attempt(import_file, file, home.folder)
    assert (ended.kind, ended.code) == ("refused", code), ended
    assert home.is_unchanged()


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_skops_file_with_one_name_twice_is_refused(attempt: Attempt, tmp_path: Path) -> None:
    """Whoever checks one member and opens the other was deceived."""
    data = _zip(("schema.json", _schema()), ("schema.json", _schema()))
    assert _refused(attempt, data, "m.skops", "skops", tmp_path) == {"bad_skops"}


def _graph(*weights: TensorProto, **options: Any) -> bytes:
    names = [each.name for each in weights]
    inputs = ["x", *names] if names else ["x", "x"]
    graph = helper.make_graph(
        [helper.make_node("Add", inputs, ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 2])],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    data: bytes = model.SerializeToString()
    return data


def _weight(dims: list[int], data: bytes = b"") -> TensorProto:
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, raw_data=data)
    weight.dims.extend(dims)
    return weight


def _outside(location: str, **more: object) -> TensorProto:
    weight = TensorProto(name="w", data_type=TensorProto.FLOAT, data_location=TensorProto.EXTERNAL)
    weight.dims.extend([2])
    for key, value in {"location": location, **more}.items():
        entry = weight.external_data.add()
        entry.key, entry.value = key, str(value)
    return weight


def _varint(number: int) -> bytes:
    parts = []
    while number > 127:
        parts.append(number & 127 | 128)
        number >>= 7
    return bytes([*parts, number])


def _field(number: int, data: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _deep(levels: int) -> bytes:
    """A graph in an attribute of a node of a graph in an attribute …"""
    graph = b""
    for _ in range(levels):
        graph = _field(1, _field(5, _field(6, graph)))
    return b"\x08\x08" + _field(7, graph)


def _strange(domain: str) -> bytes:
    graph = helper.make_graph(
        [helper.make_node("Evil", ["x"], ["y"], domain=domain)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None, 2])],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(domain, 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    data: bytes = model.SerializeToString()
    return data


_ONNX: dict[str, tuple[Callable[[], bytes], set[str]]] = {
    "dimensions overflow": (lambda: _graph(_weight([2**62, 4])), {"bad_onnx"}),
    "dimensions without data": (lambda: _graph(_weight([2**33])), {"bad_onnx"}),
    "dimensions beyond data": (lambda: _graph(_weight([10**5, 10**5], b"1234")), {"bad_onnx"}),
    "negative dimension": (lambda: _graph(_weight([-1], b"1234")), {"bad_onnx"}),
    "too little data": (lambda: _graph(_weight([2], b"1234")), {"bad_onnx"}),
    "too much data": (lambda: _graph(_weight([2], b"1234" * 100)), {"bad_onnx"}),
    "foreign operators": (lambda: _strange("evil.example"), {"unknown_operator"}),
    "deep": (lambda: _deep(5000), {"bad_onnx"}),
    "length that lies": (
        lambda: b"\x08\x08\x3a" + _varint(2**40) + b"abc",
        {"bad_onnx"},
    ),
    "junk": (lambda: b"\x08\x08\x3a\xff\xff\xff\xff\x0f" + b"a" * 100, {"bad_onnx"}),
    "cut": (lambda: _graph(_weight([2], b"12345678"))[:-20], {"bad_onnx"}),
    "huge attribute": (
        lambda: b"\x08\x08" + _field(7, _field(1, _field(5, b"\n\x01a" + b"a" * 30_000_000))),
        {"bad_onnx"},
    ),
    **{
        f"weights in {location}": (
            lambda location=location: _graph(_outside(location)),
            {"bad_external_data", "bad_onnx"},
        )
        for location in (
            "/etc/passwd",
            "../../../../../../../../etc/passwd",
            "a/../../../../../../etc/passwd",
            "/proc/self/mem",
            "/dev/zero",
            "nowhere",
            "..\\secret",
            ".",
            "",
        )
    },
    "weights in memory": (
        lambda: _graph(_outside("*/_ORT_MEM_ADDR_/*", offset=4_194_304, length=8)),
        {"bad_external_data", "bad_onnx"},
    ),
}


@pytest.mark.parametrize(("make", "codes"), _ONNX.values(), ids=_ONNX)
def test_an_onnx_model_that_means_harm_is_refused(
    make: Callable[[], bytes], codes: set[str], attempt: Attempt, tmp_path: Path
) -> None:
    """As a file of its own, and in a bundle that somebody has made around it."""
    assert _refused(attempt, make(), "m.onnx", "onnx", tmp_path) <= codes


@pytest.mark.parametrize("link", ["/etc/passwd", "secret"])
def test_weights_behind_a_link_are_not_taken(link: str, attempt: Attempt, tmp_path: Path) -> None:
    """A link beside the model leads into a file of somebody else's."""
    (tmp_path / "secret").write_bytes(b"12345678")
    (tmp_path / "model").mkdir()
    file = tmp_path / "model" / "m.onnx"
    (tmp_path / "model" / "w.bin").symlink_to(tmp_path / link)
    file.write_bytes(_graph(_outside("w.bin")))
    ended = attempt(package, file)
    assert (ended.kind, ended.code) == ("refused", "bad_external_data")


@pytest.mark.parametrize(
    "more",
    [{"offset": 2**62, "length": 8}, {"offset": -8, "length": 8}, {"length": 2**40}],
)
def test_weights_beyond_their_file_are_refused(
    more: dict[str, int], attempt: Attempt, tmp_path: Path
) -> None:
    """By what the graph says of where they begin and how long they are."""
    data = _graph(_outside("w.bin", **more))
    (tmp_path / "w.bin").write_bytes(b"12345678")
    file = tmp_path / "m.onnx"
    file.write_bytes(data)
    for ended in (attempt(package, file), attempt(serve, data, "onnx", {"w.bin": b"12345678"})):
        assert (ended.kind, ended.code) == ("refused", "bad_onnx"), ended


_STRANGERS: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "safetensors that lie": (
        "m.safetensors",
        lambda: (
            struct.pack("<Q", 2**60) + b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
        ),
        "unknown_format",
    ),
    "pickle called ONNX": ("m.onnx", lambda: pickle.dumps([1]), "wrong_format"),
    "zip called ONNX": ("m.onnx", lambda: _type("os", "system"), "wrong_format"),
    "zip behind a graph": ("m.onnx", lambda: _graph() + _type("os", "system"), "bad_onnx"),
    "pickle behind a zip": (
        "m.skops",
        lambda: _type("os", "system") + pickle.dumps([1]),
        "untrusted_types",
    ),
    "HDF5": ("m.h5", lambda: b"\x89HDF\r\n\x1a\n" + bytes(100), "unknown_format"),
    "script": ("m.py", lambda: b"import os\nos.system('id')\n", "unknown_format"),
    "program": ("m", lambda: b"\x7fELF" + bytes(100), "unknown_format"),
}


@pytest.mark.parametrize(("name", "make", "code"), _STRANGERS.values(), ids=_STRANGERS)
def test_what_is_something_else_is_refused(
    name: str,
    make: Callable[[], bytes],
    code: str,
    attempt: Attempt,
    home: Home,
    tmp_path: Path,
) -> None:
    """By what it is, whatever it is called, or both at once."""
    file = tmp_path / name
    file.write_bytes(make())
    ended = attempt(import_file, file, home.folder)
    assert (ended.kind, ended.code) == ("refused", code), ended
    assert home.is_unchanged()


def _samples(shape: list[int], data: str = "[1]", datatype: str = "FP32") -> bytes:
    tensor = f'{{"name":"x","datatype":"{datatype}","shape":{shape},"data":{data}}}'
    return f'{{"inputs":[{tensor}],"outputs":[]}}'.encode()


@pytest.mark.parametrize(
    "data",
    [
        _samples([2**40, 2**40]),
        _samples([2**62, 4]),
        _samples([-1]),
        _samples([10**12]),
        _samples([1], datatype="OBJECT"),
        _samples([1], "[[" * 100_000),
        _samples([1], "[" + "9" * 1_000_000 + "]"),
        b"[" * 1_000_000,
        b"\x93NUMPY\x01\x00",
        b"PK\x03\x04",
        pickle.dumps([1]),
        b"",
    ],
)
def test_samples_that_mean_harm_are_refused(data: bytes, attempt: Attempt) -> None:
    """Shapes that lie, numbers without end, and anything that is no JSON."""
    ended = attempt(read_samples, data)
    assert ended.kind == "refused", ended
    assert ended.seconds < 20


@pytest.mark.parametrize("suffix", [".npz", ".npy"])
def test_a_sample_of_objects_is_not_unpickled(
    suffix: str, attempt: Attempt, tmp_path: Path
) -> None:
    """`--sample` reads arrays of numbers and text, and nothing that runs."""
    from tests.hostile.actions import read_table

    mark = tmp_path / "pwned"
    file = tmp_path / f"rows{suffix}"
    array = np.array([Pwned(mark)], object)
    if suffix == ".npz":
        np.savez(file, x=array)
    else:
        np.save(file, array, allow_pickle=True)
    ended = attempt(read_table, file)
    assert (ended.kind, ended.code) == ("refused", "bad_sample")
    assert not mark.exists()


def test_good_models_pass(attempt: Attempt, tmp_path: Path) -> None:
    """What the checks above are made of is served where nobody has changed it."""
    good = {
        "a.json": json.dumps(_xgboost_json()).encode(),
        "b.ubj": _xgboost_ubj(),
        "c.txt": _sized(_lightgbm_text()).encode(),
        "e.onnx": _graph(_weight([2], bytes(8))),
    }
    for name, data in good.items():
        (tmp_path / name).write_bytes(data)
        assert attempt(package, tmp_path / name).kind == "done", name
    assert onnx.load_model_from_string(good["e.onnx"]).ir_version == 9
