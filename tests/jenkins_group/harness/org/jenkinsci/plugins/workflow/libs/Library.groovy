package org.jenkinsci.plugins.workflow.libs

@interface Library {
    String[] value()
}
