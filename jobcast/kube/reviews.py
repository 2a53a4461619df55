"""What an account may do, by access reviews."""

from collections.abc import Iterable
from typing import Any

from jobcast.kube.api import Api
from jobcast.kube.permissions import Permission


async def missing(
    api: Api, permissions: Iterable[Permission], namespace: str | None, *, user: str = ""
) -> list[Permission]:
    """Those that our own account does not have (None: in all namespaces), in their order. Or those of `user`, for which our
    account may lack the permission to ask. Raises KubeError."""
    return [one for one in permissions if not await _is_allowed(api, one, namespace, user)]


async def whoami(api: Api) -> str:
    """Our user name, `system:serviceaccount:<namespace>:<name>` in a Pod. Servers before 1.28 raise NotFound."""
    review = {"kind": "SelfSubjectReview", "apiVersion": "authentication.k8s.io/v1"}
    status = (await api.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", review)).get("status")
    user = status.get("userInfo") if isinstance(status, dict) else None
    return str(user.get("username", "")) if isinstance(user, dict) else ""


async def _is_allowed(api: Api, permission: Permission, namespace: str | None, user: str) -> bool:
    verb, resource, subresource = permission
    attributes = {"verb": verb, "group": resource.group, "resource": resource.name, "subresource": subresource}
    spec: dict[str, Any] = {"resourceAttributes": attributes | ({"namespace": namespace} if namespace else {})}
    kind = "SelfSubjectAccessReview"
    if user:
        kind = "SubjectAccessReview"
        # A ServiceAccount also has the permissions of these groups.
        spec |= {"user": user, "groups": ["system:authenticated", "system:serviceaccounts"]}
    review = {"kind": kind, "apiVersion": "authorization.k8s.io/v1", "spec": spec}
    answer = await api.post(f"/apis/authorization.k8s.io/v1/{kind.lower()}s", review)
    return bool((answer.get("status") or {}).get("allowed"))
