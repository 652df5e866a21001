//! As much of a Kubernetes API server as the kubernetes auth method asks for: TokenReview.
//! <https://kubernetes.io/docs/reference/kubernetes-api/authentication-resources/token-review-v1/>

use std::sync::Arc;

use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use keyhole::fake_vault::cluster::Cluster;
use serde_json::{Value, json};
use tokio::net::TcpListener;

/// Serves on a free port of the loopback interface, as long as the test's runtime lives.
pub async fn start(cluster: Arc<Cluster>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new()
        .route("/apis/authentication.k8s.io/v1/tokenreviews", post(review))
        .with_state(cluster);
    drop(tokio::spawn(async move { axum::serve(listener, router).await }));
    format!("http://{address}")
}

async fn review(State(cluster): State<Arc<Cluster>>, Json(body): Json<Value>) -> Json<Value> {
    let token = body["spec"]["token"].as_str().unwrap_or_default();
    let status = match cluster.review(token) {
        None => json!({ "authenticated": false, "error": "not one of ours" }),
        Some(claims) => json!({
            "authenticated": true,
            "audiences": claims["aud"],
            "user": {
                "username": claims["sub"],
                "uid": claims["kubernetes.io"]["serviceaccount"]["uid"],
                "groups": ["system:serviceaccounts", "system:authenticated"],
            },
        }),
    };
    Json(json!({
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "status": status,
    }))
}
