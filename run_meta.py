#!/usr/bin/env python
"""
Meta-train, evaluate and save an MS-MAML model.

    accelerate launch run_meta.py configs/audio_text_image.yaml --data_dir DATA [--any_option value ...]

The YAML file gives any of the options, the command line goes on top. `msmaml train` does the same.
"""

from msmaml.commands.train import main

if __name__ == "__main__":
    main()
