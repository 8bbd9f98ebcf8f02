"""The fields of a Service."""

from __future__ import annotations

from nodeport_nft.explain.common import PORT, head
from nodeport_nft.explain.field import Field

_ADDRESS = "IPv4 or IPv6 addresses; no loopback, link-local or multicast"

SERVICE = (
    *head(
        "v1",
        "Labels select Services (get -l). One has a meaning here: a Service with "
        "service.kubernetes.io/service-proxy-name is another proxy's, and is not served.",
    ),
    Field("spec", "Object", "What the Service is to be reached at, and who answers."),
    Field(
        "spec.type",
        "string",
        "How far the Service can be reached. Each type includes the ones before: ClusterIP inside of the cluster; "
        "NodePort on every node too; LoadBalancer at the addresses of its status too. ExternalName stands for a DNS "
        "name, and nothing is served for it.",
        default="ClusterIP",
        allowed="ClusterIP, NodePort, LoadBalancer, ExternalName",
    ),
    Field("spec.ports", "[]Object", "The ports of the Service; one at least, unless it is headless."),
    Field(
        "spec.ports.name",
        "string",
        "The port's name. Endpoints of an EndpointSlice serve the port of the same name.",
        default="none; needed where there are several ports",
        allowed="lower-case letters, digits and '-'; at most 63 characters",
    ),
    Field(
        "spec.ports.protocol",
        "string",
        "The protocol. Ports of several protocols may share a number.",
        default="TCP",
        allowed="TCP, UDP, SCTP",
    ),
    Field("spec.ports.port", "integer", "Where clusterIP and other addresses listen.", allowed=PORT),
    Field(
        "spec.ports.targetPort",
        "integer or string",
        "Where the endpoints listen: a number, or the name of a port of the selected Pods. EndpointSlices and "
        "Endpoints say it themselves, and this is not asked then.",
        default="the same as port",
        allowed=f"{PORT}, or the name of a container port",
    ),
    Field(
        "spec.ports.nodePort",
        "integer",
        "Where every node listens, for types NodePort and LoadBalancer. The whole cluster has one Service for each "
        "number and protocol.",
        default="a free number of nodePortRange, which is kept",
        allowed="of nodePortRange (explain config.nodePortRange)",
    ),
    Field("spec.ports.appProtocol", "string", "A hint for other programs.", acts=False),
    Field(
        "spec.selector",
        "map[string]string",
        "The labels that Pods must carry to be endpoints. EndpointSlices of the Service, or an Endpoints object of "
        "its name, go before it.",
        default="none: the endpoints are given by EndpointSlices or Endpoints",
    ),
    Field(
        "spec.clusterIP",
        "string",
        "The address inside of the cluster. None makes the Service headless: names alone, and nothing is served.",
        default="a free address of serviceCIDRs, which is kept",
        allowed="of serviceCIDRs (explain config.serviceCIDRs), or None",
    ),
    Field(
        "spec.clusterIPs",
        "[]string",
        "The same for each family; the first is clusterIP.",
        default="one for each of ipFamilies",
        allowed="two at most, of two families",
    ),
    Field(
        "spec.ipFamilies",
        "[]string",
        "The families that the Service is served in.",
        default="the first family of serviceCIDRs",
        allowed="IPv4, IPv6",
    ),
    Field(
        "spec.ipFamilyPolicy",
        "string",
        "How many families are wanted: one, two if the node has them, or two in any case.",
        default="SingleStack",
        allowed="SingleStack, PreferDualStack, RequireDualStack",
    ),
    Field(
        "spec.externalIPs",
        "[]string",
        "Further addresses at which the nodes answer for the Service. The configuration says which may be claimed "
        "(explain config.externalIPs); another Service's clusterIP never is.",
        default="none",
        allowed=_ADDRESS,
    ),
    Field(
        "spec.externalTrafficPolicy",
        "string",
        "Who answers what comes from outside (nodePort, externalIPs, load balancer): all endpoints, or those of the "
        "node alone, which keeps the client's address. An annotation adds PreferLocal.",
        default="Cluster",
        allowed="Cluster, Local",
    ),
    Field(
        "spec.internalTrafficPolicy",
        "string",
        "The same of connections to the clusterIP.",
        default="Cluster",
        allowed="Cluster, Local",
    ),
    Field(
        "spec.trafficDistribution",
        "string",
        "Which endpoints a selector's Pods are preferred to be: those of the same zone, or of the same node. Hints "
        "of EndpointSlices are read in any case.",
        default="none: all alike",
        allowed="PreferSameZone, PreferSameNode, PreferClose (PreferSameZone's old name)",
    ),
    Field(
        "spec.sessionAffinity",
        "string",
        "ClientIP: a client keeps its endpoint, told by its address.",
        default="None",
        allowed="None, ClientIP",
    ),
    Field("spec.sessionAffinityConfig", "Object", "More about sessionAffinity: ClientIP."),
    Field("spec.sessionAffinityConfig.clientIP", "Object", "More about sessionAffinity: ClientIP."),
    Field(
        "spec.sessionAffinityConfig.clientIP.timeoutSeconds",
        "integer",
        "Seconds after its last connection for which a client keeps its endpoint.",
        default="10800",
        allowed="1-86400",
    ),
    Field(
        "spec.publishNotReadyAddresses",
        "boolean",
        "Whether endpoints are used though they are not ready.",
        default="false",
    ),
    Field(
        "spec.healthCheckNodePort",
        "integer",
        "For LoadBalancer with externalTrafficPolicy Local: where each node tells over HTTP how many endpoints of "
        "its own it has.",
        default="a free number of nodePortRange, which is kept",
        allowed="of nodePortRange",
    ),
    Field(
        "spec.loadBalancerSourceRanges",
        "[]string",
        "Who may connect to the load balancer's addresses. For nodePorts there is an annotation.",
        default="everybody",
        allowed="networks, as 10.0.0.0/8",
    ),
    Field(
        "spec.allocateLoadBalancerNodePorts",
        "boolean",
        "Whether a LoadBalancer gets nodePorts.",
        default="true",
    ),
    Field(
        "spec.loadBalancerClass",
        "string",
        "Which controller is to give the addresses. None runs here: write them into the status.",
        acts=False,
    ),
    Field("spec.loadBalancerIP", "string", "A wish to the controller that gives addresses; shown.", acts=False),
    Field(
        "spec.externalName",
        "string",
        "For type ExternalName: the DNS name that the Service stands for. Checked and shown.",
        acts=False,
    ),
    Field("status", "Object", "What others have found out about the Service."),
    Field("status.loadBalancer", "Object", "What a load balancer has given the Service."),
    Field(
        "status.loadBalancer.ingress",
        "[]Object",
        "The addresses of a LoadBalancer. They may be written in a manifest, as no controller runs here.",
    ),
    Field(
        "status.loadBalancer.ingress.ip",
        "string",
        "An address at which the nodes answer for the Service. The configuration says which may be claimed "
        "(explain config.loadBalancerIPs).",
        allowed=_ADDRESS,
    ),
    Field(
        "status.loadBalancer.ingress.ipMode",
        "string",
        "VIP: packets come with this address, and nodes answer. Proxy: the load balancer opens connections of its "
        "own, and nodes do nothing for the address.",
        default="VIP",
        allowed="VIP, Proxy",
    ),
    Field("status.loadBalancer.ingress.hostname", "string", "A name in place of an address; shown.", acts=False),
)
