/** Publishes the run's report, a page without scripts. */
void call() {
    publishHTML(target: [
        allowMissing: false,
        alwaysLinkToLastBuild: true,
        keepAll: true,
        reportDir: 'report',
        reportFiles: 'report.html',
        reportName: 'Embedmill',
    ])
}
