"""What all tests share."""

pytest_plugins = ["langchain_stormtrooper.testing.fixtures"]
