import logging

import pytest

from densehead.engine.runner import is_brief


@pytest.mark.parametrize(
    ("text", "brief"),
    [
        ("Config:\ndefault_scope = 'mmdet'", False),
        ("paramwise_options -- neck.lateral_convs.0.conv.bias:lr=0.02", False),
        ("backbone.layer1.0.bn1.weight is skipped since its requires_grad=False", False),
        ("Epoch(train) [1][2/2]  loss: 2.4651", True),
        ("Load checkpoint from net.pth", True),
    ],
)
def test_what_is_for_the_console(text, brief):
    """A line for each of a thousand parameters belongs in the log file."""
    assert is_brief(logging.LogRecord("mmengine", logging.INFO, "", 0, "%s", (text,), None)) is brief
