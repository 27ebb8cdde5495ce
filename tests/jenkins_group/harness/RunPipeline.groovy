import groovy.json.JsonOutput
import groovy.json.JsonSlurperClassic
import org.codehaus.groovy.control.CompilerConfiguration
import org.codehaus.groovy.control.customizers.ImportCustomizer
import org.jenkinsci.plugins.workflow.steps.FlowInterruptedException

/** Runs a Jenkinsfile with its library: `groovy RunPipeline.groovy build.json`; what came of it: result.json. */

// Maps of the other slurper are parsed when they are first asked, which branches may do at the same time.
Map config = new JsonSlurperClassic().parse(new File(args[0]), 'UTF-8')
Build build = new Build(config)
JenkinsScript.steps = new Steps(build)
JenkinsScript.signatures = new JsonSlurperClassic().parse(new File(config.signatures), 'UTF-8')

ImportCustomizer imports = new ImportCustomizer()
imports.addImports('org.jenkinsci.plugins.workflow.libs.Library')
CompilerConfiguration compiler = new CompilerConfiguration(scriptBaseClass: 'JenkinsScript', sourceEncoding: 'UTF-8')
compiler.addCompilationCustomizers(imports)
GroovyClassLoader loader = new GroovyClassLoader(getClass().classLoader, compiler)
CompilerConfiguration plain = new CompilerConfiguration(sourceEncoding: 'UTF-8')
loader = new GroovyClassLoader(new GroovyClassLoader(getClass().classLoader, plain).with { parent ->
    parent.addClasspath(config.library + '/src')
    return parent
}, compiler)

new File(config.library + '/vars').eachFileMatch(~/.*\.groovy/) { file ->
    JenkinsScript.library[file.name - '.groovy'] = loader.parseClass(file).newInstance()
}
String failure = ''
try {
    loader.parseClass(new File(config.jenkinsfile), ).newInstance().run()
} catch (FlowInterruptedException interrupted) {
    build.worsen('ABORTED')
    failure = interrupted.causes*.class*.name.join(', ')
} catch (Throwable thrown) {
    build.worsen('FAILURE')
    failure = thrown.toString()
    org.codehaus.groovy.runtime.StackTraceUtils.deepSanitize(thrown).printStackTrace()
}
for (Agent agent : build.agents.values()) {
    agent.endAll()
}
new File(build.folder, 'result.json').setText(
    JsonOutput.toJson([result: build.result, failure: failure, events: build.events]), 'UTF-8'
)
System.exit(0)
