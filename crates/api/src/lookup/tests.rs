use super::*;
use crate::manifest::parse_file;

const MESH: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: productpage-v1, namespace: bookinfo}
spec:
  template:
    metadata:
      labels: {app: productpage, version: v1}
      annotations:
        sidecar.istio.io/userVolume: '{\"p\":{\"configMap\":{\"name\":\"m\"}}}'
        sidecar.istio.io/userVolumeMount: '{\"p\":{\"mountPath\":\"/opt\"}}'
    spec: {serviceAccountName: bookinfo-productpage, containers: [{ports: [{containerPort: 9080}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: details, namespace: bookinfo, labels: {app: details}}
spec: {containers: [{ports: [{containerPort: 1}, {containerPort: 2}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: details, namespace: elsewhere}
---
apiVersion: v1
kind: Pod
metadata: {name: broken, namespace: bookinfo, annotations: {sidecar.istio.io/userVolume: '{'}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: istio-ingressgateway, namespace: istio-system}
spec: {template: {metadata: {labels: {istio: ingressgateway}}, spec: {containers: [{ports: [{containerPort: 15021}]}]}}}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: bookinfo-gateway, namespace: bookinfo}
spec: {selector: {istio: ingressgateway}, servers: [{port: {number: 8080}}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: front, namespace: bookinfo}
spec: {gatewayClassName: istio, listeners: [{port: 80}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: waypoint, namespace: bookinfo}
spec: {gatewayClassName: istio-waypoint, listeners: [{port: 15008}]}
---
apiVersion: v1
kind: Service
metadata: {name: reviews, namespace: bookinfo, labels: {istio.io/use-waypoint: waypoint}}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata:
  name: outside
  namespace: elsewhere
  labels: {istio.io/use-waypoint: waypoint, istio.io/use-waypoint-namespace: bookinfo}
---
apiVersion: v1
kind: Service
metadata: {name: not-behind-it, namespace: elsewhere, labels: {istio.io/use-waypoint: waypoint}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: vm, namespace: bookinfo}
spec: {address: 192.0.2.1, labels: {app: vm}, serviceAccount: vm, ports: {http: 8000}}
";

fn find(name: &str) -> Result<FoundWorkload, LookupError> {
    let parsed = parse_file("mesh.yaml", MESH);
    assert_eq!(parsed.diagnostics, []);
    find_workload(&parsed.resources, name)
}

#[test]
fn a_deployment_gives_everything_about_its_pods() {
    let found = find("productpage-v1").unwrap();
    assert_eq!(found, find("bookinfo/productpage-v1").unwrap());
    assert_eq!((found.kind, found.role), ("Deployment", WorkloadRole::SidecarInbound));
    assert!(!found.mounts.is_empty());
    let workload = found.workload(found.role, "root");
    assert_eq!((workload.namespace.as_str(), workload.port), ("bookinfo", 9080));
    assert_eq!(workload.labels["version"], "v1");
    assert_eq!(workload.service_account, "bookinfo-productpage");
    assert_eq!(workload.root_namespace, "root");
    assert_eq!(found.workload(WorkloadRole::SidecarOutbound, "root").port, 0);
}

#[test]
fn gateways_have_the_ports_of_their_servers() {
    let rows = [
        ("istio-ingressgateway", WorkloadRole::Gateway, 8080, None),
        ("front", WorkloadRole::Gateway, 80, Some("front")),
        ("waypoint", WorkloadRole::Waypoint, 0, Some("waypoint")),
        ("vm", WorkloadRole::SidecarInbound, 8000, None),
    ];
    for (name, role, port, gateway) in rows {
        let found = find(name).unwrap();
        let workload = found.workload(found.role, "istio-system");
        assert_eq!(
            (workload.role, workload.port, workload.gateway()),
            (role, port, gateway),
            "{name}"
        );
    }
}

#[test]
fn a_waypoint_stands_before_the_services_that_name_it() {
    let names: Vec<_> = find("waypoint").unwrap().services;
    let service = |namespace: &str, name: &str, is_service_entry| ServedService {
        name: NamespacedName::new(namespace, name),
        is_service_entry,
    };
    let expected = [service("bookinfo", "reviews", false), service("elsewhere", "outside", true)];
    assert_eq!(names, expected);
    assert_eq!(find("front").unwrap().services, []);
}

#[test]
fn namespace_and_kind_tell_workloads_of_one_name_apart() {
    let mesh = "apiVersion: v1
kind: Pod
metadata: {name: a, namespace: gateway}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: a, namespace: gateway}
---
apiVersion: v1
kind: Pod
metadata: {name: a, namespace: ns}
";
    let resources = parse_file("a.yaml", mesh).resources;
    let rows = [
        ("a", None),
        ("gateway/a", Some("Gateway gateway/a")),
        ("Pod/a", None),
        ("pod/a", None),
        ("ns/a", Some("Pod ns/a")),
        ("gateway/pod/a", Some("Pod gateway/a")),
        ("gateway/Gateway/a", Some("Gateway gateway/a")),
        ("ns/Gateway/a", None),
        ("ns/pod/b", None),
        ("", None),
        ("/", None),
        ("a/b/c/d", None),
    ];
    for (name, expected) in rows {
        let found = find_workload(&resources, name).ok();
        let found = found.map(|found| format!("{} {}", found.kind, found.name));
        assert_eq!(found.as_deref(), expected, "{name:?}");
    }
}

#[test]
fn several_ports_are_as_good_as_none() {
    let found = find("bookinfo/details").unwrap();
    assert_eq!(found.ports, [1, 2]);
    assert_eq!(found.workload(found.role, "istio-system").port, 0);
    assert_eq!(found.service_account, "default");
}

#[test]
fn names_that_are_missing_or_ambiguous_are_errors_with_a_hint() {
    let rows = [
        (
            "productpage-v2",
            "no workload `productpage-v2` is given",
            "did you mean `productpage-v1`?",
        ),
        ("zzz", "no workload `zzz` is given", "there are Deployment bookinfo/productpage-v1"),
        ("other/vm", "no workload `other/vm` is given", "there are"),
        (
            "details",
            "`details` is the name of several workloads: Pod bookinfo/details, Pod elsewhere/details",
            "write `NAMESPACE/NAME`",
        ),
        ("broken", "the volumes of `bookinfo/broken` cannot be read", "for example"),
    ];
    for (name, message, hint) in rows {
        let error = find(name).unwrap_err();
        assert_eq!(error.to_string(), message);
        assert!(error.hint().unwrap().starts_with(hint), "{error:?}");
    }
    let error = find_workload(&[], "a").unwrap_err();
    assert!(error.hint().unwrap().contains("with `-f`"), "{error:?}");
}

#[test]
fn an_error_names_ten_workloads_and_no_more() {
    for (given, named) in [(9, 9), (10, 10), (11, 10)] {
        let pod =
            |number| format!("---\napiVersion: v1\nkind: Pod\nmetadata: {{name: p{number}}}\n");
        let pods = (0..given).map(pod).collect::<Vec<_>>().concat();
        let error = find_workload(&parse_file("a.yaml", &pods).resources, "zzz").unwrap_err();
        assert_eq!(error.hint().unwrap().matches("Pod ").count(), named, "{error:?}");
    }
}
