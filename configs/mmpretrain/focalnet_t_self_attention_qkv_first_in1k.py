# Table 12: self-attention over levels of keys and values.
_base_ = './_base_/classifier_focalnet.py'

model = dict(backbone=dict(arch='tiny-lrf', modulation='self_attention_qkv_first'))
