from tests.engine.tiny import data_root, default_scope_as_before, one_thread, text_of_config_once  # noqa: F401
