"""Manifests that several tests of commands apply."""

from __future__ import annotations

TWO_NAMED_PORTS = """
apiVersion: v1
kind: Service
metadata: {name: web}
spec:
  type: NodePort
  clusterIP: 10.96.5.6
  selector: {app: web}
  externalTrafficPolicy: Local
  ports:
  - {name: http, port: 80, targetPort: http, nodePort: 30080}
  - {name: mon, port: 81, targetPort: monitor, nodePort: 30081}
"""
"""A Service of policy Local, of which one port can have endpoints and the other none: no Pod names a port so."""
