# Table 12: self-attention over keys and values of levels.
_base_ = './_base_/classifier_focalnet.py'

model = dict(backbone=dict(arch='tiny-lrf', modulation='self_attention_qkv_later'))
