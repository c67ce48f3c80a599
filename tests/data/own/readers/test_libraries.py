"""What other readers of the same files find."""

import pytest

from focalnet_mm.data.own import read_data
from tests.helpers import formats
from tests.helpers.folders import quiet


def boxes_of(labels):
    """Boxes by picture of what labelformat reads."""
    return {label.image.filename.rsplit('/', 1)[-1]: [
        (item.category.name, (item.box.xmin, item.box.ymin, item.box.xmax, item.box.ymax)) for item in label.objects]
        for label in labels.get_labels()}


def ours(data, split=None):
    return {picture.path.name: [(data.classes[annotation.label], annotation.box) for annotation in picture.annotations]
            for picture in data.pictures if split in (None, picture.split)}


def check_equal(found, expected, shift=(0, 0, 0, 0)):
    assert found.keys() == expected.keys()
    for name, objects in expected.items():
        assert [label for label, _ in found[name]] == [label for label, _ in objects]
        for (_, box), (_, other) in zip(found[name], objects):
            assert [value + add for value, add in zip(box, shift)] == pytest.approx(other, abs=1e-3)


def test_coco(sources, tmp_path):
    from labelformat.formats import COCOObjectDetectionInput
    formats.write_coco(sources, tmp_path, masks=None)
    data = read_data(tmp_path, tell=quiet)
    for split in formats.SPLITS:
        check_equal(ours(data, split), boxes_of(COCOObjectDetectionInput(tmp_path / f'{split}.json')))


@pytest.mark.parametrize('masks', [False, True])
def test_yolo(masks, sources, tmp_path):
    from labelformat.formats import YOLOv8InstanceSegmentationInput, YOLOv8ObjectDetectionInput
    sources = formats.in_one_piece(sources)
    formats.write_yolo(sources, tmp_path, masks)
    data = read_data(tmp_path, tell=quiet)
    for split in formats.SPLITS:
        if not masks:
            check_equal(ours(data, split), boxes_of(YOLOv8ObjectDetectionInput(tmp_path / 'data.yaml', split)))
            continue
        found = {picture.path.name: picture.annotations for picture in data.pictures if picture.split == split}
        for label in YOLOv8InstanceSegmentationInput(tmp_path / 'data.yaml', split).get_labels():
            for annotation, item in zip(found[label.image.filename], label.objects, strict=True):
                assert data.classes[annotation.label] == item.category.name
                points = [value for point in item.segmentation.polygons[0] for value in point]
                assert annotation.segmentation[0] == pytest.approx(points)


def test_cvat(sources, tmp_path):
    from labelformat.formats import CVATObjectDetectionInput
    formats.write_cvat(sources, tmp_path, 'boxes')
    check_equal(ours(read_data(tmp_path, tell=quiet)), boxes_of(CVATObjectDetectionInput(tmp_path / 'annotations.xml')))


@pytest.mark.parametrize('first', [1, 0])
def test_voc(first, sources, tmp_path):
    """They leave the numbers as they stand; ours begin at 0 whether the file's do or not."""
    from globox import AnnotationSet
    formats.write_voc(sources, tmp_path)
    if first == 0:
        for path in (tmp_path / 'Annotations').iterdir():
            text = path.read_text()
            for side in ('xmin', 'ymin'):
                for value in range(1, 97):
                    text = text.replace(f'<{side}>{value}</{side}>', f'<{side}> {value - 1} </{side}>')
            path.write_text(text)
    theirs = AnnotationSet.from_pascal_voc(tmp_path / 'Annotations')
    expected = {annotation.image_id: [(box.label, (box.xmin, box.ymin, box.xmax, box.ymax)) for box in annotation.boxes]
                for annotation in theirs}
    assert min(min(box[:2]) for objects in expected.values() for _, box in objects) == first
    check_equal(ours(read_data(tmp_path, tell=quiet)), expected, (first, first, 0, 0))


def test_labelme(sources, tmp_path):
    from globox import AnnotationSet
    formats.write_labelme(sources, tmp_path, 'boxes')
    for folder in formats.SPLITS:
        theirs = AnnotationSet.from_labelme(tmp_path / folder)
        check_equal(ours(read_data(tmp_path, tell=quiet), folder), {annotation.image_id: [
            (box.label, tuple(sorted((box.xmin, box.xmax))[:1] + sorted((box.ymin, box.ymax))[:1]
                              + sorted((box.xmin, box.xmax))[1:] + sorted((box.ymin, box.ymax))[1:]))
            for box in annotation.boxes] for annotation in theirs})
