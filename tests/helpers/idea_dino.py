"""DINO at inference as FocalNet-DINO computes it, written out over tensors named as its code does, and such tensors.

Names and order of the computation: models/dino/dino.py and models/dino/deformable_transformer.py of
IDEA-Research/DINO; the positional encoding has temperature 20 and no offset, and class rows are COCO's category ids.
"""

import math

import torch
import torch.nn.functional as F

from .detrex_dino import (
    cell_centres,
    deformable,
    flat,
    inverse_sigmoid,
    linear,
    mlp,
    norm,
    self_attention,
    sine_box,
    waves,
)

HEADS, POINTS, DIM = 8, 4, 256


def random_state(backbone, channels, scales, num_queries, rows, layers=2, hidden=64):
    """Tensors of a detector by their names, the backbone's as given."""
    torch.manual_seed(1)
    state = {f'backbone.0.{name}': tensor for name, tensor in backbone.items()}

    def add(name, *shape, mean=0.0):
        state[name] = torch.randn(shape) * 0.05 + mean

    def layer(name, outs, ins):
        add(f'{name}.weight', outs, ins)
        add(f'{name}.bias', outs)

    def scale(name):
        add(f'{name}.weight', DIM, mean=1.0)
        add(f'{name}.bias', DIM)

    def box_mlp(name):
        for i, outs in enumerate((DIM, DIM, 4)):
            layer(f'{name}.layers.{i}', outs, DIM)

    def attention(name):
        layer(f'{name}.sampling_offsets', HEADS * scales * POINTS * 2, DIM)
        layer(f'{name}.attention_weights', HEADS * scales * POINTS, DIM)
        for part in ('value_proj', 'output_proj'):
            layer(f'{name}.{part}', DIM, DIM)

    for i in range(scales):
        kernel = 1 if i < len(channels) else 3
        add(f'input_proj.{i}.0.weight', DIM, channels[min(i, len(channels) - 1)], kernel, kernel)
        add(f'input_proj.{i}.0.bias', DIM)
        scale(f'input_proj.{i}.1')
    add('transformer.level_embed', scales, DIM)
    add('transformer.tgt_embed.weight', num_queries, DIM)
    layer('transformer.enc_output', DIM, DIM)
    scale('transformer.enc_output_norm')
    for part, norms in (('encoder', (1, 2)), ('decoder', (1, 2, 3))):
        for i in range(layers):
            name = f'transformer.{part}.layers.{i}'
            attention(f'{name}.{"self_attn" if part == "encoder" else "cross_attn"}')
            for number in norms:
                scale(f'{name}.norm{number}')
            layer(f'{name}.linear1', hidden, DIM)
            layer(f'{name}.linear2', DIM, hidden)
            if part == 'decoder':
                add(f'{name}.self_attn.in_proj_weight', 3 * DIM, DIM)
                add(f'{name}.self_attn.in_proj_bias', 3 * DIM)
                layer(f'{name}.self_attn.out_proj', DIM, DIM)
    scale('transformer.decoder.norm')
    layer('transformer.decoder.ref_point_head.layers.0', DIM, 2 * DIM)
    layer('transformer.decoder.ref_point_head.layers.1', DIM, DIM)
    add('label_enc.weight', rows + 1, DIM)
    for name in ('class_embed.0', 'transformer.enc_out_class_embed'):
        layer(name, rows, DIM)
        # As trained: what nothing speaks for is not there.
        state[f'{name}.bias'] -= 4
    for name in ('bbox_embed.0', 'transformer.enc_out_bbox_embed'):
        box_mlp(name)
    return with_copies(state, layers)


def with_copies(state, layers):
    """One head for all layers, in the file once for each, and all of them again in the decoder."""
    copies = {name.replace('.0.', f'.{i}.', 1): tensor for i in range(layers) for name, tensor in state.items()
              if name.startswith(('class_embed.0.', 'bbox_embed.0.'))}
    return {**state, **copies, **{f'transformer.decoder.{name}': tensor for name, tensor in copies.items()}}


def detect(state, features, ids, num_queries, num_boxes):
    """Normalised boxes (cx, cy, w, h), scores and category ids for the feature maps of one unpadded image.

    Args:
        ids: The category ids that are used: the file's other rows are never looked at.
    """
    maps = neck(state, features)
    shapes = [feature.shape[-2:] for feature in maps]
    tokens = torch.cat([flat(feature) for feature in maps])
    position = torch.cat([flat(sine_map(feature)) + state['transformer.level_embed'][i]
                          for i, feature in enumerate(maps)])
    grid = torch.cat([cell_centres(*shape) for shape in shapes]).to(tokens)

    for name in layers(state, 'encoder'):
        offsets = grid[:, None].expand(-1, len(shapes), -1)
        tokens = norm(state, f'{name}.norm1.', tokens + deformable(
            state, f'{name}.self_attn.', tokens + position, offsets, tokens, shapes))
        tokens = norm(state, f'{name}.norm2.', tokens + ffn(state, name, tokens))

    sizes = torch.cat([torch.full((h * w, 2), 0.05 * 2**i) for i, (h, w) in enumerate(shapes)]).to(tokens)
    proposals = torch.cat([grid, sizes], 1)
    valid = ((proposals > 0.01) & (proposals < 0.99)).all(1, keepdim=True)
    memory = norm(state, 'transformer.enc_output_norm.', linear(state, 'transformer.enc_output.', tokens * valid))
    boxes = mlp(state, 'transformer.enc_out_bbox_embed.layers.', memory)
    boxes = boxes + torch.logit(proposals).masked_fill(~valid, math.inf)
    scores = linear(state, 'transformer.enc_out_class_embed.', memory)[:, ids]
    reference = boxes[scores.max(1).values.topk(num_queries).indices].sigmoid()

    query = state['transformer.tgt_embed.weight']
    for i, name in enumerate(layers(state, 'decoder')):
        place = mlp(state, 'transformer.decoder.ref_point_head.layers.', sine_box(reference))
        query = norm(state, f'{name}.norm2.', query + self_attention(state, f'{name}.self_attn.', query + place, query))
        query = norm(state, f'{name}.norm1.', query + deformable(
            state, f'{name}.cross_attn.', query + place, reference[:, None].expand(-1, len(shapes), -1), tokens,
            shapes))
        query = norm(state, f'{name}.norm3.', query + ffn(state, name, query))
        out = norm(state, 'transformer.decoder.norm.', query)
        before = inverse_sigmoid(reference)
        predicted = (mlp(state, f'bbox_embed.{i}.layers.', out) + before).sigmoid()
        reference = (mlp(state, f'bbox_embed.{i}.layers.', query) + before).sigmoid()
    scores = linear(state, f'class_embed.{i}.', out)[:, ids].sigmoid()
    values, places = scores.flatten().topk(num_boxes)
    return predicted[places // len(ids)], values, torch.tensor(ids)[places % len(ids)]


def layers(state, part):
    start = f'transformer.{part}.layers.'
    count = 1 + max(int(name.split('.')[3]) for name in state if name.startswith(start))
    return [f'{start}{i}' for i in range(count)]


def neck(state, features):
    count = sum(name.startswith('input_proj.') and name.endswith('.0.weight') for name in state)
    maps = []
    for i in range(count):
        how = dict() if i < len(features) else dict(stride=2, padding=1)
        x = features[i] if i < len(features) else features[-1]
        x = F.conv2d(x, state[f'input_proj.{i}.0.weight'], state[f'input_proj.{i}.0.bias'], **how)
        maps.append(F.group_norm(x, 32, state[f'input_proj.{i}.1.weight'], state[f'input_proj.{i}.1.bias']))
    return maps


def sine_map(feature):
    _, _, h, w = feature.shape
    y = torch.arange(1, h + 1).to(feature) / (h + 1e-6) * 2 * math.pi
    x = torch.arange(1, w + 1).to(feature) / (w + 1e-6) * 2 * math.pi
    both = torch.cat([waves(y, 20)[:, None].expand(h, w, 128), waves(x, 20)[None].expand(h, w, 128)], -1)
    return both.permute(2, 0, 1)[None]


def ffn(state, name, x):
    return linear(state, f'{name}.linear2.', linear(state, f'{name}.linear1.', x).relu())
