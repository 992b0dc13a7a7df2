"""Configs that several heads have as defaults. Nothing changes them: what is built gets copies."""

FOCAL_LOSS = dict(type="FocalLoss", use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0)
SMOOTH_L1_LOSS = dict(type="SmoothL1Loss", beta=1.0 / 9.0, loss_weight=1.0)
IOU_LOSS = dict(type="IoULoss", loss_weight=1.0)
BINARY_CROSS_ENTROPY = dict(type="CrossEntropyLoss", use_sigmoid=True, loss_weight=1.0)
DISTRIBUTION_FOCAL_LOSS = dict(type="DistributionFocalLoss", loss_weight=0.25)
LEAKY_RELU = dict(type="LeakyReLU", negative_slope=0.1)
GROUP_NORM = dict(type="GN", num_groups=32, requires_grad=True)
DISTANCE_CODER = dict(type="DistancePointBBoxCoder")
DELTA_CODER = dict(type="DeltaXYWHBBoxCoder", target_means=(0.0, 0.0, 0.0, 0.0), target_stds=(1.0, 1.0, 1.0, 1.0))
RETINA_ANCHORS = dict(type="AnchorGenerator", scales=[8, 16, 32], ratios=[0.5, 1.0, 2.0], strides=[4, 8, 16, 32, 64])


def normal_init(classifier: str) -> dict:
    """Return the initialisation of RetinaNet: small normal weights, and scores of 0.01 from ``classifier``."""
    override = dict(type="Normal", name=classifier, std=0.01, bias_prob=0.01)
    return dict(type="Normal", layer="Conv2d", std=0.01, override=override)
