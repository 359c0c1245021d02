"""The API server of the tests of Kubernetes, for the tests of manifests too."""

from __future__ import annotations

from tests.kubernetes.conftest import api_server as api_server
from tests.kubernetes.conftest import kubeconfig as kubeconfig
from tests.kubernetes.conftest import kubernetes as kubernetes
