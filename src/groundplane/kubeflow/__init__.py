"""Kubeflow: Groundplane's pipelines as KFP v2's intermediate representation (IR), and the other way round. Pure."""
