# Three images: the model server (no torch in it), the dashboard, and everything for training.
#   docker build --target serve -t stimcore-serve .
#   docker build --target app -t stimcore-app .
#   docker build --target train -t stimcore-train .
# compose.yaml runs the first two together. `make lock` renews the exact versions that are installed. What is installed and started below is tested in fresh virtual environments.

# hadolint global ignore=DL3008
FROM ubuntu:24.04 AS plain
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PATH=/opt/venv/bin:$PATH
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 python3-venv tini \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv /opt/venv \
    && useradd --create-home --uid 10001 stimcore
WORKDIR /home/stimcore
ENTRYPOINT ["tini", "--"]

# The same on CUDA 13 with cuDNN 9, which onnxruntime-gpu and torch load; without a GPU both run on the CPU.
FROM nvidia/cuda:13.0.2-cudnn-runtime-ubuntu24.04 AS cuda
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PATH=/opt/venv/bin:$PATH
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 python3-venv tini \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv /opt/venv \
    && useradd --create-home --uid 10001 stimcore
WORKDIR /home/stimcore
ENTRYPOINT ["tini", "--"]

FROM cuda AS serve
COPY locks/serve.txt ./
RUN pip install --require-hashes -r serve.txt
COPY stimcore ./stimcore
RUN mkdir exported
USER 10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-m", "stimcore.serve.healthcheck", "http://127.0.0.1:8000"]
# Set STIMCORE_TOKEN: without one the server refuses to listen where others can reach it.
CMD ["python", "-m", "stimcore.serve", "exported", "--host", "0.0.0.0", "--port", "8000"]

FROM plain AS app
COPY locks/app.txt ./
RUN pip install --require-hashes -r app.txt
COPY .streamlit ./.streamlit
COPY stimcore ./stimcore
COPY app ./app
USER 10001
EXPOSE 8501
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import urllib.request as u; assert u.build_opener(u.ProxyHandler({})).open('http://127.0.0.1:8501/_stcore/health', timeout=4).read() == b'ok'"]
# Set STIMCORE_SERVER and STIMCORE_TOKEN.
CMD ["python", "-m", "streamlit", "run", "app/main.py", "--server.address", "0.0.0.0", "--server.port", "8501", "--server.headless", "true"]

FROM cuda AS train
COPY locks/train.txt ./
RUN pip install --require-hashes -r train.txt
COPY stimcore ./stimcore
RUN mkdir runs exported data && chown stimcore runs exported data
USER 10001
HEALTHCHECK NONE
CMD ["python", "-m", "stimcore.train", "--help"]
