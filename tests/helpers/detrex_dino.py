"""DINO at inference as detrex computes it, written out from the paper's formulas over tensors named as detrex does."""

import math

import torch
import torch.nn.functional as F

HEADS, POINTS = 8, 4


def detect(state, features, num_queries, num_boxes):
    """Normalised boxes (cx, cy, w, h), scores and labels for the feature maps of one unpadded image."""
    maps = neck(state, features)
    shapes = [feature.shape[-2:] for feature in maps]
    tokens = torch.cat([flat(feature) for feature in maps])
    position = torch.cat([flat(sine_map(feature)) + state['transformer.level_embeds'][i]
                          for i, feature in enumerate(maps)])
    grid = torch.cat([cell_centres(*shape) for shape in shapes]).to(tokens)

    for name in layers(state, 'transformer.encoder.'):
        offsets = grid[:, None].expand(-1, len(shapes), -1)
        tokens = norm(state, f'{name}.norms.0.', tokens + deformable(
            state, f'{name}.attentions.0.', tokens + position, offsets, tokens, shapes))
        tokens = norm(state, f'{name}.norms.1.', tokens + ffn(state, f'{name}.ffns.0.layers.', tokens))

    decoder_layers = layers(state, 'transformer.decoder.')
    last = len(decoder_layers)
    sizes = torch.cat([torch.full((h * w, 2), 0.05 * 2**i) for i, (h, w) in enumerate(shapes)]).to(tokens)
    proposals = torch.cat([grid, sizes], 1)
    valid = ((proposals > 0.01) & (proposals < 0.99)).all(1, keepdim=True)
    memory = norm(state, 'transformer.enc_output_norm.', linear(state, 'transformer.enc_output.', tokens * valid))
    boxes = mlp(state, f'bbox_embed.{last}.layers.', memory) + torch.logit(proposals).masked_fill(~valid, math.inf)
    best = linear(state, f'class_embed.{last}.', memory).max(1).values.topk(num_queries).indices
    reference = boxes[best].sigmoid()

    query = state['transformer.tgt_embed.weight']
    for i, name in enumerate(decoder_layers):
        place = mlp(state, 'transformer.decoder.ref_point_head.layers.', sine_box(reference))
        query = norm(state, f'{name}.norms.0.', query + self_attention(
            state, f'{name}.attentions.0.attn.', query + place, query))
        query = norm(state, f'{name}.norms.1.', query + deformable(
            state, f'{name}.attentions.1.', query + place, reference[:, None].expand(-1, len(shapes), -1), tokens,
            shapes))
        query = norm(state, f'{name}.norms.2.', query + ffn(state, f'{name}.ffns.0.layers.', query))
        out = norm(state, 'transformer.decoder.norm.', query)
        before = inverse_sigmoid(reference)
        predicted = (mlp(state, f'bbox_embed.{i}.layers.', out) + before).sigmoid()
        reference = (mlp(state, f'bbox_embed.{i}.layers.', query) + before).sigmoid()
    scores = linear(state, f'class_embed.{last - 1}.', out).sigmoid()
    values, places = scores.flatten().topk(num_boxes)
    return predicted[places // scores.shape[1]], values, places % scores.shape[1]


def layers(state, prefix):
    count = 1 + max(int(name.split('.')[3]) for name in state if name.startswith(f'{prefix}layers.'))
    return [f'{prefix}layers.{i}' for i in range(count)]


def neck(state, features):
    def mapped(name, x, **how):
        x = F.conv2d(x, state[f'{name}.conv.weight'], state[f'{name}.conv.bias'], **how)
        return F.group_norm(x, 32, state[f'{name}.norm.weight'], state[f'{name}.norm.bias'])

    return [*(mapped(f'neck.convs.{i}', feature) for i, feature in enumerate(features)),
            mapped('neck.extra_convs.0', features[-1], stride=2, padding=1)]


def flat(feature):
    return feature[0].flatten(1).T


def cell_centres(h, w):
    y, x = torch.meshgrid((torch.arange(h) + 0.5) / h, (torch.arange(w) + 0.5) / w, indexing='ij')
    return torch.stack([x, y], -1).reshape(-1, 2)


def waves(x, temperature=10000):
    """128 sines and cosines, one after the other, of a number."""
    powers = temperature ** (2 * (torch.arange(128) // 2) / 128)
    angles = x[..., None] / powers.to(x)
    return torch.stack([angles[..., 0::2].sin(), angles[..., 1::2].cos()], -1).flatten(-2)


def sine_map(feature):
    _, _, h, w = feature.shape
    y = (torch.arange(1, h + 1).to(feature) - 0.5) / (h + 1e-6) * 2 * math.pi
    x = (torch.arange(1, w + 1).to(feature) - 0.5) / (w + 1e-6) * 2 * math.pi
    both = torch.cat([waves(y)[:, None].expand(h, w, 128), waves(x)[None].expand(h, w, 128)], -1)
    return both.permute(2, 0, 1)[None]


def sine_box(box):
    return waves(box[:, [1, 0, 2, 3]] * 2 * math.pi).flatten(1)


def linear(state, name, x):
    return F.linear(x, state[f'{name}weight'], state[f'{name}bias'])


def norm(state, name, x):
    return F.layer_norm(x, x.shape[-1:], state[f'{name}weight'], state[f'{name}bias'])


def ffn(state, name, x):
    return linear(state, f'{name}1.', linear(state, f'{name}0.0.', x).relu())


def mlp(state, name, x):
    count = sum(other.startswith(name) and other.endswith('.weight') for other in state)
    for i in range(count):
        x = linear(state, f'{name}{i}.', x)
        x = x.relu() if i < count - 1 else x
    return x


def inverse_sigmoid(x, eps=1e-3):
    return torch.log(x.clamp(min=eps) / (1 - x).clamp(min=eps))


def self_attention(state, name, query, value):
    weights, biases = state[f'{name}in_proj_weight'].chunk(3), state[f'{name}in_proj_bias'].chunk(3)
    q, k, v = (F.linear(x, weight, bias).unflatten(1, (HEADS, -1)).transpose(0, 1)
               for x, weight, bias in zip((query, query, value), weights, biases))
    attended = (q @ k.transpose(1, 2) / q.shape[-1]**0.5).softmax(-1) @ v
    return linear(state, f'{name}out_proj.', attended.transpose(0, 1).flatten(1))


def deformable(state, name, query, reference, tokens, shapes):
    """Deformable attention (arXiv 2010.04159, equation 3) around points, or around boxes by their size."""
    count, levels = len(query), len(shapes)
    values = linear(state, f'{name}value_proj.', tokens).unflatten(1, (HEADS, -1))
    offsets = linear(state, f'{name}sampling_offsets.', query).view(count, HEADS, levels, POINTS, 2)
    weights = linear(state, f'{name}attention_weights.', query).view(count, HEADS, -1).softmax(-1)
    weights = weights.view(count, HEADS, levels, POINTS)
    total = 0
    for level, (part, (h, w)) in enumerate(zip(values.split([h * w for h, w in shapes]), shapes)):
        around = reference[:, level, None, None]
        unit = around[..., 2:] / POINTS / 2 if around.shape[-1] == 4 else 1 / torch.tensor([w, h]).to(around)
        where = around[..., :2] + offsets[:, :, level] * unit
        picture = part.permute(1, 2, 0).unflatten(2, (h, w))
        samples = F.grid_sample(picture, 2 * where.transpose(0, 1) - 1, align_corners=False)
        total = total + (samples * weights[:, :, level].transpose(0, 1)[:, None]).sum(-1)
    return linear(state, f'{name}output_proj.', total.permute(2, 0, 1).flatten(1))
