"""A small Kubernetes API server, which behaves as a kube-apiserver 1.36 was measured to.

It checks documents by the schemas of their definitions, except for rules in CEL (``x-kubernetes-validations``). It
has one storage version of each kind, no admission, no conversion, and no controllers but those that delete: of
dependents, of namespaces and of definitions.
"""
