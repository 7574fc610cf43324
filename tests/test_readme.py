"""What the README shows runs as it stands there."""

import re
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def test_first_two_commands_train_and_test():
    commands = [text for language, text in BLOCKS if language == "sh"]
    assert commands[0].strip().endswith("numbabn train")
    assert commands[1].strip().endswith("-m pytest")


def test_python_examples_run_in_order():
    namespace = {}
    examples = [text for language, text in BLOCKS if language == "python"]
    assert len(examples) >= 2
    for text in examples:
        exec(compile(text, "README.md", "exec"), namespace)
    assert namespace["y"].shape == (32, 28, 28, 64)
    assert namespace["history"].final.test_accuracy > 0.5
