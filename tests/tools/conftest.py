from tests.engine.tiny import data_root, free_port, no_default_scope_left, one_thread, text_of_config_once  # noqa: F401
