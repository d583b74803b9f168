"""Torchvision's ops, declared here as torchvision declares them, next to plain loops."""

from __future__ import annotations

import math

import pytest
import torch

import torsh_fx
from torsh_dialect.errors import UnsupportedError

OPS = {
    "nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "roi_pool": "(Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, "
    "SymInt pooled_width) -> (Tensor, Tensor)",
    "deform_conv2d": "(Tensor input, Tensor weight, Tensor offset, Tensor mask, Tensor bias, "
    "SymInt stride_h, SymInt stride_w, SymInt pad_h, SymInt pad_w, SymInt dilation_h, "
    "SymInt dilation_w, SymInt groups, SymInt offset_groups, bool use_mask) -> Tensor",
}


@pytest.fixture(scope="module", autouse=True)
def library():
    """The ops of torchvision without torchvision."""
    made = torch.library.Library("torchvision", "FRAGMENT")
    for name, schema in OPS.items():
        made.define(name + schema)
    for name, function in (("nms", nms), ("roi_pool", roi_pool), ("deform_conv2d", deform_conv)):
        made.impl(name, function, "CPU")
    made._register_fake("nms", lambda boxes, *_: boxes.new_empty(unbacked(), dtype=torch.long))
    made._register_fake("roi_pool", pooled_shapes)
    made._register_fake("deform_conv2d", convolved_shape)
    yield
    made._destroy()


def unbacked():
    return torch.library.get_ctx().new_dynamic_size()


def pooled_shapes(x, rois, scale, height, width):
    dims = (rois.shape[0], x.shape[1], height, width)
    return x.new_empty(dims), x.new_empty(dims, dtype=torch.int32)


def convolved_shape(x, weight, offset, *_):
    return x.new_empty((x.shape[0], weight.shape[0], *offset.shape[2:]))


def nms(boxes, scores, threshold):
    """As torchvision: products of plain differences, compared in f64."""
    kept = []
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    for i in torch.argsort(scores, descending=True, stable=True).tolist():
        low = torch.maximum(boxes[i, :2], boxes[kept, :2])
        high = torch.minimum(boxes[i, 2:], boxes[kept, 2:])
        shared = (high - low).clamp(min=0).prod(1)
        overlap = shared / (area[i] + area[kept] - shared)
        if not any(float(one) > threshold for one in overlap):
            kept.append(i)
    return torch.tensor(kept, dtype=torch.long)


def away(value):
    """Rounded as C's `round`: halves away from zero."""
    return int(math.copysign(math.floor(abs(value) + 0.5), value))


def roi_pool(x, rois, scale, height, width):
    y = torch.zeros(len(rois), x.shape[1], height, width)
    for r, (entry, *corners) in enumerate(rois.tolist()):
        left, top, right, bottom = (away(value * scale) for value in corners)
        tall, wide = max(bottom - top + 1, 1) / height, max(right - left + 1, 1) / width
        for i in range(height):
            for j in range(width):
                rows = span(math.floor(i * tall) + top, math.ceil((i + 1) * tall) + top, x.shape[2])
                columns = span(
                    math.floor(j * wide) + left, math.ceil((j + 1) * wide) + left, x.shape[3]
                )
                part = x[int(entry), :, rows, columns]
                if part.numel():
                    y[r, :, i, j] = part.amax((1, 2))
    return y, torch.zeros(y.shape, dtype=torch.int32)


def span(low, high, extent):
    return slice(min(max(low, 0), extent), min(max(high, 0), extent))


def deform_conv(x, weight, offset, mask, bias, *window):
    *window, groups, parts, masked = window
    sh, sw, ph, pw, dh, dw = window
    y = torch.zeros(convolved_shape(x, weight, offset).shape)
    (_, channels, _, _), (outputs, inner, kh, kw) = x.shape, weight.shape
    for n, f, i, j, c, p, q in torch.cartesian_prod(
        *map(torch.arange, (len(x), outputs, *y.shape[2:], inner, kh, kw))
    ).tolist():
        channel = f // (outputs // groups) * inner + c
        tap = (channel // (channels // parts) * kh + p) * kw + q
        row = i * sh - ph + p * dh + float(offset[n, 2 * tap, i, j])
        column = j * sw - pw + q * dw + float(offset[n, 2 * tap + 1, i, j])
        value = between(x[n, channel], row, column) * float(weight[f, c, p, q])
        y[n, f, i, j] += value * (float(mask[n, tap, i, j]) if masked else 1.0)
    return y + bias.reshape(1, -1, 1, 1)


def between(image, row, column):
    """Linear between four elements, zeros outside."""
    total, top, left = 0.0, math.floor(row), math.floor(column)
    for i, u in ((top, 1 - (row - top)), (top + 1, row - top)):
        for j, v in ((left, 1 - (column - left)), (left + 1, column - left)):
            if 0 <= i < image.shape[0] and 0 <= j < image.shape[1]:
                total += u * v * float(image[i, j])
    return total


class Calls(torch.nn.Module):
    """A module that calls an op of torchvision, with numbers at the end."""

    def __init__(self, name, *numbers):
        super().__init__()
        self.name, self.numbers = name, numbers

    def forward(self, *tensors):
        return getattr(torch.ops.torchvision, self.name)(*tensors, *self.numbers)


def boxes_of(count, element=torch.float32):
    """Boxes on a grid, many of which touch, are equal, or are empty."""
    corners = torch.randint(0, 8, (count, 2))
    return torch.cat([corners, corners + torch.randint(0, 5, (count, 2))], 1).to(element)


@pytest.mark.parametrize("threshold", [0.0, 0.2, 0.5, 0.7, 1.0])
@pytest.mark.parametrize("element", [torch.float32, torch.float64])
def test_non_maximum_suppression(threshold, element):
    torch.manual_seed(0)
    first = (boxes_of(12, element), torch.rand(12).to(element))
    axes = {0: torch.export.Dim("n", min=0, max=64)}
    program = torch.export.export(Calls("nms", threshold), first, dynamic_shapes=((axes, axes),))
    compiled = torsh_fx.compile(program)
    for count in (12, 40, 1, 0):
        # rounded scores are often equal; the earlier box is first
        scores = (torch.rand(count) * 8).round().to(element)
        boxes = boxes_of(count, element)
        assert compiled(boxes, scores).tolist() == nms(boxes, scores, threshold).tolist()


def test_a_threshold_between_two_numbers_of_f32_and_boxes_the_wrong_way_round():
    quarters = torch.tensor([[0, 0, 10, 10], [0, 0, 7, 10], [9, 9, 1, 1], [1, 1, 9, 9.0]])
    scores = torch.tensor([4, 3, 2, 1.0])
    for threshold in (0.7, 0.64, 0.63):
        compiled = torsh_fx.compile(Calls("nms", threshold), (quarters, scores))
        assert compiled(quarters, scores).tolist() == nms(quarters, scores, threshold).tolist()


def test_a_negative_threshold_is_refused():
    with pytest.raises(UnsupportedError, match=r"negative threshold -0\.5"):
        torsh_fx.compile(Calls("nms", -0.5), (boxes_of(3), torch.rand(3)))


def test_region_pooling():
    torch.manual_seed(0)
    x = torch.randn(2, 3, 9, 11)
    rois = torch.cat([torch.randint(0, 2, (6, 1)), boxes_of(6) * 3 - 2], 1)
    rois[0, 1:] = torch.tensor([2.0, 2.0, 1.0, 0.0])
    rois[1, 1:] = torch.tensor([40.0, 1.0, 50.0, 5.0])  # outside
    rois[2, 1:] = torch.tensor([-3.0, -1.0, 3.0, 5.0])
    model = Calls("roi_pool", 0.5, 2, 3)
    torch.testing.assert_close(
        torsh_fx.compile(First(model), (x, rois))(x, rois), model(x, rois)[0]
    )


class First(torch.nn.Module):
    """The first result of a module."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, *args):
        return self.inner(*args)[0]


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("groups", "parts"), [(1, 1), (2, 1), (1, 2)])
def test_deformed_convolution(masked, groups, parts):
    torch.manual_seed(0)
    x, weight, bias = torch.randn(2, 4, 6, 5), torch.randn(4, 4 // groups, 3, 2), torch.randn(4)
    rows, columns = (6 + 2 - 3) // 2 + 1, (5 + 4 - 1 * 2 - 1) // 1 + 1
    offset = torch.randn(2, parts * 12, rows, columns) * 2
    mask = torch.rand(2, parts * 6, rows, columns) if masked else torch.zeros(2, 1)
    model = Calls("deform_conv2d", 2, 1, 1, 2, 1, 2, groups, parts, masked)
    args = (x, weight, offset, mask, bias)
    torch.testing.assert_close(
        torsh_fx.compile(model, args)(*args), model(*args), rtol=1e-5, atol=1e-5
    )
