# What surrounds every training: scope, hooks, log, pictures.
# TensorBoard: --cfg-options "vis_backends=[dict(type='LocalVisBackend'),dict(type='TensorboardVisBackend')]"
default_scope = "densehead"

default_hooks = dict(
    timer=dict(type="IterTimerHook"),
    logger=dict(type="LoggerHook", interval=50),
    param_scheduler=dict(type="ParamSchedulerHook"),
    # the best by the first metric of the evaluator (coco/bbox_mAP, pascal_voc/mAP) and the three newest, none half written
    checkpoint=dict(
        type="CheckpointHook",
        interval=1,
        max_keep_ckpts=3,
        save_best="auto",
        backend_args=dict(backend="densehead_atomic"),
    ),
    sampler_seed=dict(type="DistSamplerSeedHook"),
    visualization=dict(type="DetVisualizationHook"),
    # tools/train.py adds these to a config that does not name them; None is for none
    seeds=dict(type="SeedHook"),
    check_classes=dict(type="NumClassCheckHook"),
    check_checkpoint=dict(type="CheckpointCheckHook"),
    check_losses=dict(type="CheckInvalidLossHook"),
    assignment=dict(type="AssignmentHook", interval=50),
    memory=dict(type="HostMemoryHook"),
    summary=dict(type="TrainingSummaryHook"),
)

env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0),
    dist_cfg=dict(backend="nccl"),
)

vis_backends = [dict(type="LocalVisBackend")]
visualizer = dict(type="DetLocalVisualizer", vis_backends=vis_backends, name="visualizer")
# losses, positives and missed objects are means over the last 50 iterations
log_processor = dict(
    type="LogProcessor",
    window_size=50,
    by_epoch=True,
    mean_pattern=r".*(loss|time|data_time|grad_norm|num_pos|num_missed).*",
)

log_level = "INFO"
load_from = None
resume = False
