# One image for both services and for the migrations; the command says which:
#   python -m api | python -m wsgateway | python -m db.migrate
# Built in two steps, so that pip's leavings stay behind. The base is named by version; pin its
# digest where your registry mirrors it (docker buildx imagetools inspect shows it).
FROM python:3.13-slim-trixie AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /build
COPY requirements.txt ./
RUN python -m venv --without-pip /opt/venv \
    && python -m pip --python /opt/venv/bin/python install \
        --require-hashes --only-binary=:all: -r requirements.txt

FROM python:3.13-slim-trixie
# Logs at once; nothing is written beside the code, so the file system may be read-only.
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
COPY --from=build /opt/venv /opt/venv
WORKDIR /gatehouse
COPY rules/ rules/
COPY db/ db/
COPY api/ api/
COPY wsgateway/ wsgateway/
# A number, so that Kubernetes can see that it is not root; no such user needs to exist.
USER 65532:65532
EXPOSE 8000 8001
# No shell in between: SIGTERM reaches Python itself.
CMD ["python", "-m", "api"]
