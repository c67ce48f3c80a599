"""Damaged and forged checkpoints, any number of them, each of a kind that a seed picks."""

import io
import json
import struct
import zipfile

import numpy as np
import torch
from safetensors.torch import save

CODE = ('os system', 'posix system', 'builtins eval', 'builtins exec', '__builtin__ eval', 'builtins __import__',
        'builtins getattr', 'builtins open', 'builtins compile', 'subprocess Popen', 'subprocess check_output',
        'runpy _run_code', 'shutil rmtree', 'pickle loads', '_pickle loads', 'torch load', 'numpy load',
        'torch.hub load', 'torch.jit load', 'operator attrgetter', 'operator methodcaller', 'functools partial',
        'importlib import_module',
        'webbrowser open', 'socket create_connection', 'ctypes CDLL', 'code InteractiveInterpreter', 'sys exit',
        'types FunctionType', 'types CodeType', 'copyreg __newobj__', 'pydoc locate', 'timeit timeit', 'pdb run',
        'asyncio.unix_events _UnixSubprocessTransport.__init__', 'collections namedtuple', 'yaml unsafe_load',
        'mmengine.config.config Config.fromfile', 'focalnet_mm.weights.files read_checkpoint', 'nt system')


def whole_files(state):
    """A state dict as each of the formats has it: (ending, bytes)."""
    formats = {}
    for name, new in (('archive', True), ('legacy', False)):
        buffer = io.BytesIO()
        torch.save({'model': state, 'epoch': 3}, buffer, _use_new_zipfile_serialization=new)
        formats[name] = ('.pth', buffer.getvalue())
    formats['safetensors'] = ('.safetensors', save(state))
    return formats


def damaged(formats, seed):
    """(kind, ending, bytes) of one damaged file."""
    random = np.random.default_rng(seed)
    kind = ('truncated', 'flipped', 'flipped', 'sized', 'code', 'filling')[seed % 6]
    name = list(formats)[random.integers(len(formats))]
    ending, whole = formats[name]
    if kind == 'truncated':
        # Near the ends as often as anywhere.
        kept = int(len(whole) * random.choice([random.random(), random.random() ** 8, 1 - random.random() ** 8]))
        content = whole[:kept]
    elif kind == 'flipped':
        content = bytearray(whole)
        header = HEADERS[name](whole)
        for place in random.choice(header, random.integers(1, 9)):
            content[place] ^= 1 << random.integers(8)
    elif kind == 'sized':
        content = SIZED[name](whole, random)
    else:
        ending, name = '.pth', ('archive', 'legacy')[random.integers(2)]
        made = pickle_of_code(random) if kind == 'code' else pickle_that_fills(random)
        content = with_pickle(formats[name][1], made, name)
    return f'{kind} {name}', ending, bytes(content)


def _archive_header(whole):
    """All that is no tensor: the directory, the entries' own headers, and the pickle."""
    places = [np.arange(whole.rindex(b'PK\x01\x02') - 4000, len(whole))]
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        for entry in archive.infolist():
            length = len(archive.read(entry)) if entry.filename.endswith(('.pkl', 'version')) else 0
            places.append(np.arange(entry.header_offset, entry.header_offset + 60 + len(entry.filename) + length))
    return np.concatenate(places).clip(0, len(whole) - 1)


def _legacy_header(whole):
    return np.arange(whole.index(b'\x8a\x0a') + 400, whole.rindex(b']q\x00') if b']q\x00' in whole else 20_000)


def _safetensors_header(whole):
    return np.arange(8 + struct.unpack('<Q', whole[:8])[0])


HEADERS = dict(archive=_archive_header, legacy=_legacy_header, safetensors=_safetensors_header)


def _sized_archive(whole, random):
    """Sizes in the directory, or in the pickle, that are much too large."""
    content = bytearray(whole)
    if random.random() < 0.5:
        starts = [i for i in range(len(content)) if content[i:i + 4] == b'PK\x01\x02']
        start = starts[random.integers(len(starts))]
        for offset in (20, 24):
            content[start + offset:start + offset + 4] = int(random.integers(1 << 31)).to_bytes(4, 'little')
        return content
    return with_pickle(whole, _sized_pickle(random), 'archive')


def _sized_pickle(random):
    """A tensor whose storage, shape, strides or offset is not what the file holds."""
    size, shape, stride, offset = (int(random.choice([1, 8, 1 << 20, 1 << 31, 1 << 40, 1 << 62])) for _ in range(4))
    storage = (b'(' + text('storage') + b'ctorch\nFloatStorage\n' + text('0') + text('cpu') + number(size) + b'tQ')
    tensor = (b'ctorch._utils\n_rebuild_tensor_v2\n(' + storage + number(offset) + number(shape) + b'\x85'
              + number(stride) + b'\x85\x89ccollections\nOrderedDict\n)RtR')
    return b'\x80\x02}' + text('model') + b'}' + text('patch_embed.proj.weight') + tensor + b'ss.'


def _sized_legacy(whole, random):
    return with_pickle(whole, _sized_pickle(random), 'legacy')


def _sized_safetensors(whole, random):
    length = struct.unpack('<Q', whole[:8])[0]
    if random.random() < 0.3:
        return struct.pack('<Q', int(random.choice([1 << 20, 1 << 40, (1 << 63) - 1, length + 9]))) + whole[8:]
    header = json.loads(whole[8:8 + length])
    entry = header[list(header)[random.integers(len(header))]]
    key = ('shape', 'data_offsets')[random.integers(2)]
    entry[key][random.integers(len(entry[key]))] = int(random.choice([-1, 1 << 31, 1 << 40, 1 << 62, 10**20]))
    changed = json.dumps(header).encode()
    return struct.pack('<Q', len(changed)) + changed + whole[8 + length:]


SIZED = dict(archive=_sized_archive, legacy=_sized_legacy, safetensors=_sized_safetensors)


def with_pickle(whole, content, name):
    """A file with another pickle, its check sums right."""
    if name == 'legacy':
        # Magic number, protocol and machine are pickles of their own before it.
        start = 0
        for _ in range(3):
            start = whole.index(b'.', start + 1) + 1 if _ < 2 else whole.index(b'u.', start) + 2
        return whole[:start] + content + whole[start:]
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(whole)) as archive, zipfile.ZipFile(buffer, 'w') as forged:
        for entry in archive.infolist():
            data = content if entry.filename.endswith('data.pkl') else archive.read(entry)
            forged.writestr(entry.filename, data)
    return buffer.getvalue()


def pickle_of_code(random):
    """A pickle that calls what it must not, in one of the ways in which pickles call."""
    module, name = CODE[random.integers(len(CODE))].split()
    found = f'c{module}\n{name}\n'.encode()
    argument = text('touch ran')
    calls = (
        found + argument + b'\x85R',                                             # REDUCE
        found + argument + b'\x85\x81',                                          # NEWOBJ
        b'(' + argument + f'i{module}\n{name}\n'.encode(),                       # INST
        b'(' + found + argument + b'o',                                          # OBJ
        text(module) + text(name) + b'\x93' + argument + b'\x85R',               # STACK_GLOBAL
        b'cargparse\nNamespace\n)\x81}' + text('__class__') + found + b'sb',      # BUILD with a class
        b'ccollections\nOrderedDict\n)R}' + text('__reduce__') + found + b'sb',   # BUILD with a method
        found + b'}' + text('x') + argument + b'sb',                             # BUILD of the function itself
    )
    call = calls[random.integers(len(calls))]
    return b'\x80\x02}' + text('model') + b'}ss'[:1] + text('w') + call + b'ss.'


def pickle_that_fills(random):
    """A pickle that takes much more memory, or time, than it has bytes."""
    great = number(int(random.choice([1 << 33, 1 << 40, 1 << 62])))
    fillers = (
        b'cbuiltins\nbytearray\n' + great + b'\x85R',
        b'c__builtin__\nbytearray\n' + great + b'\x85R',
        b'c__builtin__\nbytearray\n(' + great + b'q\x01tR',
        great + b'\x85q\x01c__builtin__\nbytearray\nh\x01R',
        b'(' + great + b'q\x01lc__builtin__\nbytearray\nh\x01\x85R',
        b'cbuiltins\nset\ncbuiltins\nrange\n' + great + b'\x85R\x85R',
        b'cbuiltins\nlist\ncbuiltins\nrange\n' + great + b'\x85R\x85R',
        b'cbuiltins\nbytes\n' + great + b'\x85R',
        b'cfractions\nFraction\n' + text('1e9999999999') + b'\x85R',
        b'cbuiltins\nint\ncdecimal\nDecimal\n' + text('1e999999999') + b'\x85R\x85R',
        b'cbuiltins\nstr\n(' + b']' * 3000 + b'l\x85R',
        b']' * 6_000_000,
        b']' * 60_000 + b'a' * 59_999,
        b'(' * 2_000_000,
        b']q\x00h\x00a',
        b'}q\x00' + text('model') + b'h\x00s',
        b'ctorch\nTensor\n' + great + b'\x85R',
        b'ctorch._utils\n_rebuild_meta_tensor_no_storage\n(ctorch\nfloat32\n' + great + b'\x85K\x01\x85\x89tR',
        doubled(b'}', lambda last: text('a') + last + b's' + text('b') + last + b's',
                b'cmmengine.config.config\nConfigDict\n'),
    )
    return b'\x80\x02}' + text('model') + fillers[random.integers(len(fillers))] + b's.'


def doubled(empty, link, call, depth=40):
    """A value that holds another twice, and so on: 2**depth to whoever copies it."""
    made = empty + b'q\x00'
    for i in range(depth):
        last = b'h' + bytes([i])
        made += b'0' + empty + b'q' + bytes([i + 1]) + link(last)
    return made + b'0' + call + b'h' + bytes([depth]) + b'\x85R'


def text(value):
    return b'X' + len(value).to_bytes(4, 'little') + value.encode()


def number(value):
    data = value.to_bytes(value.bit_length() // 8 + 1, 'little', signed=True)
    return b'\x8a' + bytes([len(data)]) + data
