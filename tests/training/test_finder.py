"""The training of the cell finder: what it reads, what the net is told, and the file that it writes."""

import os
import shutil

import numpy as np
import onnx
import onnxruntime as ort
import pandas as pd
import pytest
import torch
from onnx import numpy_helper
from PIL import Image
from torchvision.models import mobilenet_v2

from bloodcell.data import one_cell
from bloodcell.data.annotated_fields import SIDE, read_annotated, read_names
from bloodcell.data.cells import MODEL, STRIDE
from bloodcell.data.field_colours import recoloured
from bloodcell.data.field_dirt import dirtied
from bloodcell.data.field_views import view
from bloodcell.data.synthetic.slides import paint_slides
from bloodcell.models.finder_net import FinderNet, finder_loss, targets
from bloodcell.models.mixed_styles import MixedStyles
from bloodcell.runtime.errors import BloodcellError
from bloodcell.training.finder import main, train_finder
from bloodcell.training.finder_file import export_finder, mix_finders, read_finder
from bloodcell.training.finder_views import Batches, views_of

WEIGHTS = os.environ.get("BLOODCELL_WEIGHTS")
VOC = """<annotation><object><name>WBC</name>
<bndbox><xmin>10</xmin><ymin>20</ymin><xmax>50</xmax><ymax>80</ymax></bndbox>
</object><object><name>RBC</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object>
</annotation>"""


@pytest.fixture(scope="module")
def slides(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slides")
    paint_slides(folder, 1, 16, seed=3)
    return folder


def views(slides, folder=None, number=4):
    return views_of([read_annotated(slides)], ["slides"], folder, number, seed=0)


def test_boxes_of_a_table(slides):
    fields = read_annotated(slides)
    rows = pd.read_csv(slides / "slide_01" / "boxes.csv")
    assert sum(len(field.boxes) for field in fields) == len(rows) == 16
    first = rows.iloc[0]
    assert fields[0].file.name == first["image"]
    wanted = first["left"] + first["width"] / 2, first["top"] + first["height"] / 2, first["width"], first["height"]
    assert fields[0].boxes[0] == pytest.approx(wanted)
    assert len(read_annotated(slides, {first["image"]})) == len(fields) - 1


def test_boxes_and_names_as_spreadsheets_write_them(tmp_path, slides):
    shutil.copytree(slides, tmp_path / "slides")
    file = tmp_path / "slides" / "slide_01" / "boxes.csv"
    file.write_text(file.read_text().replace(",", ";"), encoding="utf-8-sig")
    fields = read_annotated(slides)
    again = read_annotated(tmp_path / "slides")
    assert [field.boxes.tolist() for field in again] == [field.boxes.tolist() for field in fields]
    (tmp_path / "without.txt").write_text("field_001.png\r\na cell.png\r\n", encoding="utf-8-sig")
    assert read_names(tmp_path / "without.txt") == {"field_001.png", "a cell.png"}
    assert read_names(None) == set()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image,left,top,width\n1.png,1,1,1\n", "has no column 'height'; it has image, left, top, width"),
        ("image,left,top,width,height\n1.png,1,1,1,one\n", "row 2: its box is 1, 1, 1, one; give four numbers"),
        ("image,left,top,width,height\n1.png,1,nan,1,1\n", "row 2: its box is 1, nan, 1, 1"),
        ("", "it is empty"),
    ],
)
def test_boxes_that_are_none_are_one_line(tmp_path, text, message):
    (tmp_path / "boxes.csv").write_text(text)
    with pytest.raises(BloodcellError, match=message) as caught:
        read_annotated(tmp_path)
    assert str(tmp_path / "boxes.csv") in str(caught.value)
    with pytest.raises(BloodcellError, match="cannot read the names"):
        read_names(tmp_path / "none.txt")


def test_boxes_of_pascal_voc_are_scaled_with_the_picture(tmp_path):
    for name in ("Annotations", "JPEGImages"):
        (tmp_path / name).mkdir()
    (tmp_path / "Annotations" / "a.xml").write_text(VOC)
    Image.new("RGB", (2 * SIDE, SIDE)).save(tmp_path / "JPEGImages" / "a.jpg")
    (field,) = read_annotated(tmp_path)
    assert field.image.shape == (SIDE // 2, SIDE, 3)
    assert field.boxes.tolist() == [[15, 25, 20, 30]]


def test_pictures_of_one_cell_have_a_guess_and_platelets_none(tmp_path, smears):
    for name, source in (("neutrophil", "NEUTROPHIL"), ("platelet", "NEUTROPHIL")):
        (tmp_path / name).mkdir()
        file = next((smears.root / "images" / "TRAIN" / source).iterdir())
        (tmp_path / name / file.name).write_bytes(file.read_bytes())
    cell, none = read_annotated(tmp_path)
    assert cell.boxes.shape == (1, 4)
    assert (cell.boxes[0, 2:] < 0).all()
    assert none.boxes.shape == (0, 4)


def test_a_folder_without_pictures_is_refused(tmp_path):
    with pytest.raises(BloodcellError, match="has no boxes.csv, no Annotations/ and no image"):
        read_annotated(tmp_path)


def test_a_view_shows_its_cells_and_is_drawn_by_its_numbers(slides):
    fields = read_annotated(slides)
    found = [view(fields, np.random.default_rng(seed)) for seed in range(30)]
    boxes = np.concatenate([boxes for _, boxes in found])
    assert len(boxes) > 20
    assert ((boxes[:, :2] >= 0) & (boxes[:, :2] < 256)).all()
    image, boxes = view(fields, np.random.default_rng(5))
    np.testing.assert_array_equal(image, found[5][0])
    np.testing.assert_array_equal(boxes, found[5][1])


def test_colours_change_and_boxes_stay_but_in_the_dark():
    image = np.full((64, 64, 3), (200, 150, 180), np.uint8)
    boxes = np.array([[32, 32, 10, 10], [2, 2, 8, 8]], np.float32)
    changed = [recoloured(image, boxes, np.random.default_rng(seed)) for seed in range(40)]
    assert len({tuple(one[32, 32]) for one, _ in changed}) > 30
    assert {len(left) for _, left in changed} > {2}
    for one, left in changed:
        assert one.dtype == np.uint8
        assert all(box.tolist() in boxes.tolist() for box in left)


def test_the_net_is_told_centre_and_size():
    heat, size, counts = targets(torch.tensor([[34.0, 50.0, 20.0, 40.0], [90.0, 90.0, -16.0, -16.0]]), 32, 32)
    assert heat[int(50 / STRIDE), int(34 / STRIDE)] == 1
    assert heat[int(90 / STRIDE), int(90 / STRIDE)] == 1
    assert (heat == 1).sum() == 2
    inner = counts > 0
    assert torch.allclose(size[:, inner].exp().T, torch.tensor([20.0, 40.0]))
    assert not counts[22, 22]  # a guess is no size


def test_a_cell_beyond_what_the_net_tells_counts_for_nothing():
    heat, _, counts = targets(torch.tensor([[64.0, 64.0, 140.0, 140.0], [64.0, 64.0, 60.0, 60.0]]), 64, 64)
    assert (heat == 1).sum() == 1
    silent = torch.full((1, 3, 64, 64), -9.0)
    silent[0, 0, 2, 2] = 9.0  # in the large cell
    beside = torch.full((1, 3, 64, 64), -9.0)
    beside[0, 0, 60, 60] = 9.0
    size = torch.zeros(1, 2, 64, 64)
    none = torch.zeros_like(counts)[None]
    assert finder_loss(beside, heat[None], size, none) - finder_loss(silent, heat[None], size, none) > 5


def test_the_loss_is_least_where_the_net_is_right():
    heat, size, counts = (one[None] for one in targets(torch.tensor([[34.0, 50.0, 20.0, 40.0]]), 32, 32))
    right = torch.cat([torch.where(heat[:, None] == 1, 9.0, -9.0), size], dim=1)
    wrong = torch.cat([torch.full((1, 1, 32, 32), -9.0), size], dim=1)
    larger = torch.cat([right[:, :1], size + 0.5], dim=1)
    least = finder_loss(right, heat, size, counts)
    assert least < 0.01
    assert finder_loss(wrong, heat, size, counts) > 5
    assert finder_loss(larger, heat, size, counts) - least == pytest.approx(1.0, abs=1e-5)


def test_the_file_says_what_the_net_says_for_any_size(tmp_path, slides):
    net = train_finder(views(slides), steps=2)
    export_finder(net, tmp_path / "finder.onnx")
    assert b".py" not in (tmp_path / "finder.onnx").read_bytes()  # paths of this machine
    assert (tmp_path / "finder.onnx").stat().st_size < 1_600_000
    session = ort.InferenceSession(str(tmp_path / "finder.onnx"))
    for shape in ((312, 416), (77, 104), (5, 9)):
        image = torch.rand(1, 3, *shape)
        heat, extent = session.run(None, {"image": image.numpy()})
        with torch.no_grad():
            out = net(image)
        np.testing.assert_allclose(heat, out[:, :1].sigmoid(), atol=1e-3)  # the weights have 16 bits
        np.testing.assert_allclose(extent, out[:, 1:].exp(), rtol=1e-2)


def test_the_same_seed_gives_the_same_net(slides):
    drawn = views(slides)
    first, second = (train_finder(drawn, steps=2, seed=1).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    for one, other in zip(Batches(drawn, 9, 0)[3], Batches(drawn, 9, 0)[3], strict=True):
        assert torch.equal(one, other)


def test_a_stopped_training_ends_with_the_same_net(tmp_path, slides, monkeypatch):
    monkeypatch.setattr("bloodcell.training.finder.SAVED", 1)
    drawn, state = views(slides, tmp_path), tmp_path / "state"

    class StoppedError(Exception):
        pass

    left = [2 * 12 + 12]  # views of two steps and of the first look

    def stopped(rng):
        left[0] -= 1
        if left[0] < 0:
            raise StoppedError
        return drawn[0](rng)

    with pytest.raises(StoppedError):
        train_finder([stopped], steps=3, state=state)
    again = train_finder(drawn, steps=3, state=state).state_dict()
    whole = train_finder(drawn, steps=3).state_dict()
    assert all(torch.equal(again[name], whole[name]) for name in whole)


def test_a_finder_is_read_as_it_was_written_and_learns_further(tmp_path, slides):
    drawn, file = views(slides), tmp_path / "finder.onnx"
    net = train_finder(drawn, steps=2)
    export_finder(net, file)
    images = Batches(drawn, 1, 0)[0][0]
    read = read_finder(file, images)
    with torch.no_grad():
        torch.testing.assert_close(read(images), net(images), atol=0.02, rtol=0)  # the weights have 16 bits
        torch.testing.assert_close(read.train()(images), net(images), atol=0.02, rtol=0)
    further = train_finder(drawn, steps=1, start=file, rate=1e-9).eval()
    with torch.no_grad():
        torch.testing.assert_close(further(images), net(images), atol=0.1, rtol=0)


def test_weights_are_mixed_with_those_before(tmp_path):
    after = tmp_path / "after.onnx"
    model, wanted = onnx.load(MODEL), []
    for weights in model.graph.initializer:
        if weights.data_type == onnx.TensorProto.FLOAT16:
            values = numpy_helper.to_array(weights)
            wanted.append(0.25 * values.astype(np.float32))
            weights.CopyFrom(numpy_helper.from_array(0 * values, weights.name))
    onnx.save(model, after)
    mix_finders(MODEL, after, 0.75)
    halves = [one for one in onnx.load(after).graph.initializer if one.data_type == onnx.TensorProto.FLOAT16]
    for weights, values in zip(halves, wanted, strict=True):
        np.testing.assert_allclose(numpy_helper.to_array(weights), values, rtol=1e-3, atol=1e-6)


def test_views_are_kept_and_drawn_turned(tmp_path, slides):
    (drawn,) = views(slides, tmp_path)
    before = {file: file.read_bytes() for file in tmp_path.iterdir()}
    (again,) = views(slides, tmp_path)
    assert {file: file.read_bytes() for file in tmp_path.iterdir()} == before
    np.testing.assert_array_equal(again(np.random.default_rng(3))[0], drawn(np.random.default_rng(3))[0])
    seen = [drawn(np.random.default_rng(seed)) for seed in range(20)]
    assert len({image.tobytes() for image, _ in seen}) > 10
    assert all(((boxes[:, :2] >= 0) & (boxes[:, :2] <= 256)).all() for _, boxes in seen)


def test_dirt_leaves_cells_and_the_black_around_them_alone():
    image = np.full((256, 256, 3), 200, np.uint8)
    image[:, :64] = 0
    boxes = np.array([[128, 128, 60, 60]], np.float32)
    changed = [dirtied(image, boxes, np.random.default_rng(seed)) for seed in range(30)]
    assert sum((one != image).any() for one in changed) > 20
    for one in changed:
        assert (one[108:148, 108:148] == 200).all()
        assert (one[:, :8] == 0).all()


def test_styles_are_mixed_between_pictures_and_only_then():
    layer, images = torch.nn.Identity(), torch.rand(8, 4, 16, 16) * torch.rand(8, 4, 1, 1)
    styles = MixedStyles(layer)
    assert torch.equal(layer(images), images)
    torch.manual_seed(0)
    while not styles.mixes:
        styles.draw()
    mixed = layer(images)
    assert not torch.allclose(mixed, images)
    means = mixed.mean((2, 3))
    assert (means >= images.mean((2, 3)).amin(0) - 1e-4).all()
    assert (means <= images.mean((2, 3)).amax(0) + 1e-4).all()
    styles.remove()
    assert torch.equal(layer(images), images)


def test_the_pretrained_blocks_are_those_of_a_file_and_learn_at_a_lower_rate(slides, tmp_path):
    torch.save(mobilenet_v2().state_dict(), tmp_path / "mobilenet_v2.pth")
    wanted = torch.load(tmp_path / "mobilenet_v2.pth", weights_only=True)
    first = FinderNet(str(tmp_path / "mobilenet_v2.pth"))
    assert torch.equal(first.stem[0][0].weight, wanted["features.0.0.weight"])
    assert torch.equal(first.body[-1][-1].conv[2].weight, wanted["features.13.conv.2.weight"])
    net = train_finder(views(slides), steps=2, weights=str(tmp_path / "mobilenet_v2.pth"))
    moved = [(a - b).abs().max() for a, b in zip(net.parameters(), first.parameters(), strict=True)]
    pretrained = [one for blocks in net.pretrained for one in blocks.parameters()]
    largest = max(moved[place] for place, one in enumerate(net.parameters()) if any(one is it for it in pretrained))
    assert 0 < largest < max(moved) / 2
    for one, before in zip(net.pretrained, first.pretrained, strict=True):  # statistics of batch norm stay
        assert all(torch.equal(a, b) for a, b in zip(one.buffers(), before.buffers(), strict=True))


def last_error(arguments, capsys):
    with pytest.raises(SystemExit):
        main([*map(str, arguments), "--output", "x.onnx"])
    return capsys.readouterr().err.splitlines()[-1]


def test_weights_and_finders_that_are_none_are_one_line(slides, tmp_path, capsys, monkeypatch):
    other, kept = tmp_path / "other.pth", tmp_path / "views"
    torch.save({"x": torch.zeros(1)}, other)
    given = [slides, "--views", kept]
    assert f"--weights: {other} is not a mobilenet_v2" in last_error([*given, "--weights", other], capsys)
    said = last_error([*given, "--start", one_cell.MODEL], capsys)
    assert f"{one_cell.MODEL} is no finder of this release" in said
    for name in ("none.onnx", "other.pth"):
        assert f"cannot read the finder {tmp_path / name}" in last_error([*given, "--start", tmp_path / name], capsys)
    assert "leave --weights out" in last_error([*given, "--start", MODEL, "--weights", other], capsys)

    def offline(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr("torchvision.models.get_model", offline)
    said = last_error(given, capsys)
    assert "could not be downloaded (no network); give a file of torchvision's mobilenet_v2" in said
    assert "model." not in said
    assert not kept.exists()  # the views take minutes


@pytest.mark.parametrize("content", [{"done": 3}, "text"])
def test_a_state_of_another_training_is_one_line(slides, tmp_path, content):
    state = tmp_path / "state"
    torch.save(content, state) if isinstance(content, dict) else state.write_text(content)
    with pytest.raises(BloodcellError, match=r"is no state of this training; delete it, or name another file"):
        train_finder(views(slides), steps=1, state=state)


@pytest.mark.real
@pytest.mark.skipif(not WEIGHTS, reason="BLOODCELL_WEIGHTS is not set")
def test_it_learns(slides, tmp_path, capsys):
    main([str(slides), "--output", str(tmp_path / "finder.onnx"), "--steps", "120", "--weights", WEIGHTS])
    session = ort.InferenceSession(str(tmp_path / "finder.onnx"))
    images, heat, _, _ = Batches(views(slides), 1000, 5)[999]
    said = np.concatenate([session.run(["heat"], {"image": image[None].numpy()})[0] for image in images])
    at_centres, elsewhere = said[:, 0][heat.numpy() == 1], said[:, 0][heat.numpy() < 0.01]
    assert at_centres.mean() > 5 * elsewhere.mean()
    assert "16 cells" in capsys.readouterr().out


def test_a_missing_folder_is_one_line(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main([str(tmp_path / "none"), "--output", "x.onnx"])
    assert "no" in capsys.readouterr().err.splitlines()[-1]
    assert FinderNet().eval()(torch.rand(1, 3, 64, 64)).shape == (1, 3, 16, 16)
