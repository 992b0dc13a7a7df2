from tests.engine.tiny import data_root, one_thread, text_of_config_once  # noqa: F401
