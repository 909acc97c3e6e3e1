"""
The program of a Hugging Face Space, and of `make web`: the page of `msmaml.web`.

    python demo/app.py [--model FOLDER_OR_REPOSITORY] [--port 7860]
"""

from msmaml.web.page import main

if __name__ == "__main__":
    main(prog="demo/app.py")
