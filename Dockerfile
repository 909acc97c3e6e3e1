# The page as a service, also as a Hugging Face Space (sdk: docker): docs/page.md. Build it in a clone of the repository.
FROM python:3.11.7-slim-bookworm

# libsndfile, FFTs and fonts come with the wheels; curl is not needed, since Python asks for the health.
ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PIP_NO_CACHE_DIR=1 \
    OMP_NUM_THREADS=1 \
    HF_HUB_OFFLINE=1 \
    GRADIO_ANALYTICS_ENABLED=False \
    MPLCONFIGDIR=/tmp/matplotlib

WORKDIR /app
COPY constraints.txt demo/requirements.txt ./
RUN pip install --constraint constraints.txt --extra-index-url https://download.pytorch.org/whl/cpu \
    --requirement requirements.txt gradio
COPY LICENSE NOTICE ./
COPY modeling_msmaml modeling_msmaml
COPY data_builders data_builders
COPY msmaml msmaml
COPY pretrained pretrained
COPY demo/app.py ./

# Nothing in the image may be written by the page: its files are in /tmp, and go when it ends.
RUN useradd --uid 1000 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin page
USER 1000

EXPOSE 7860
HEALTHCHECK --interval=30s --timeout=10s --start-period=120s --retries=3 \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:7860/healthz', timeout=8)"]
# Spaces have a proxy before them. Where there is none, visitors could claim to be others: give the command without it.
CMD ["python", "app.py", "--host", "0.0.0.0", "--port", "7860", "--proxies", "1"]
