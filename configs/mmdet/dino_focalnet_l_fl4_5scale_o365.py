# Pretraining on Objects365. The authors published its weights, but neither its pipelines, learning rate nor length:
# these are those of COCO.
_base_ = './_base_/dino_focalnet_shared.py'

data_source = 'download Objects365 v2 (train, val and annotations) from https://www.objects365.org'

model = dict(bbox_head=dict(num_classes=365))

dataset = dict(type='Objects365V2Dataset', data_root='data/Objects365/Obj365_v2/')
train_dataloader = dict(
    dataset=dict(ann_file='annotations/zhiyuan_objv2_train.json', data_prefix=dict(img='train/'), **dataset))
val_dataloader = dict(
    dataset=dict(ann_file='annotations/zhiyuan_objv2_val.json', data_prefix=dict(img='val/'), **dataset))
test_dataloader = val_dataloader

val_evaluator = dict(ann_file='data/Objects365/Obj365_v2/annotations/zhiyuan_objv2_val.json')
test_evaluator = val_evaluator
