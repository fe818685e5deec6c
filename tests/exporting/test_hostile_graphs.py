"""ONNX files that want too much: no memory, no time and no line on the terminal but the refusal's own."""

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import bloodcell
from bloodcell.runtime.errors import BloodcellError

pytestmark = [pytest.mark.inputs, pytest.mark.timeout(120, func_only=True)]


@pytest.fixture(scope="module")
def model(quick_run, compose, tmp_path_factory):
    """Return an exported classifier's content."""
    from bloodcell.export.export import export

    file = tmp_path_factory.mktemp("exported") / "x.onnx"
    export(compose(f"checkpoint={quick_run}", f"output={file}", verb="export"))
    return file.read_bytes()


def enlarged(count):
    """Return a change that adds the sum of so many zeros to the logits."""

    def change(graph):
        for node in graph.node:
            for names in (node.input, node.output):
                names[:] = ["small" if name == "logits" else name for name in names]
        graph.initializer.append(numpy_helper.from_array(np.array([count], np.int64), "count"))
        graph.initializer.append(numpy_helper.from_array(np.array([0], np.int64), "axis"))
        graph.node.append(helper.make_node("ConstantOfShape", ["count"], ["zeros"]))
        graph.node.append(helper.make_node("ReduceSum", ["zeros", "axis"], ["zero"], keepdims=0))
        graph.node.append(helper.make_node("Add", ["small", "zero"], ["logits"]))

    return change


def claimed(graph):
    graph.initializer[0].dims[:] = [2**40, 2**20]


def negative(graph):
    graph.initializer[0].dims[:] = [-1]


def not_finite(graph):
    for tensor in graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and len(tensor.dims) == 2:
            tensor.raw_data = np.full(list(tensor.dims), np.nan, np.float32).tobytes()


def endless(graph):
    first = next(node for node in graph.node if node.input)
    first.input[0] = graph.node[-1].output[0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (enlarged(10**13), "it does not run"),
        (enlarged(2**62), "it does not run"),
        (enlarged(-5), "refuses it"),
        (claimed, "refuses it"),
        (negative, "refuses it"),
        (not_finite, "do not fit its classes"),
        (endless, "refuses it"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_a_graph_that_wants_too_much_is_refused_in_one_line(model, change, said, tmp_path, capfd):
    proto = onnx.ModelProto.FromString(model)
    change(proto.graph)
    (tmp_path / "x.onnx").write_bytes(proto.SerializeToString())
    capfd.readouterr()
    with pytest.raises(BloodcellError, match=rf"^\S+x\.onnx cannot be used: .*{said}") as raised:
        bloodcell.load(tmp_path / "x.onnx")
    assert len(str(raised.value).splitlines()) == 1
    assert capfd.readouterr() == ("", "")


def test_the_same_file_unchanged_is_loaded(model, tmp_path):
    (tmp_path / "x.onnx").write_bytes(model)
    assert len(bloodcell.load(tmp_path / "x.onnx").classes) == 4


@pytest.mark.parametrize("tenth", range(10))
def test_a_file_that_is_cut_off_is_refused(model, tenth, tmp_path):
    (tmp_path / "x.onnx").write_bytes(model[: len(model) * tenth // 10])
    with pytest.raises(BloodcellError, match=r"x\.onnx cannot be used"):
        bloodcell.load(tmp_path / "x.onnx")


def test_damaged_bytes_are_refused_or_judge_all_the_same(model, tmp_path):
    generator = np.random.default_rng(0)
    for _ in range(20):
        content = np.frombuffer(model, np.uint8).copy()
        content[generator.integers(0, len(content), 30)] = generator.integers(0, 256, 30)
        (tmp_path / "x.onnx").write_bytes(content.tobytes())
        try:
            found = bloodcell.load(tmp_path / "x.onnx").predict(np.zeros((9, 9, 3), np.uint8))
        except BloodcellError:
            continue
        assert np.isfinite(found.filter(like="p_").to_numpy()).all()
