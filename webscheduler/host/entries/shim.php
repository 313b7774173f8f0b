<?php
// Calls webscheduler (@name@), for panels that run a file. The signature travels in a header, not in the access log.
if (isset($_SERVER['REMOTE_ADDR'])) {
    http_response_code(404); // only the panel is to run this, nobody by the web
    exit;
}

$url = '@url@';
$seconds = 120;
$headers = array('X-Webscheduler-Signature: @signature@', 'Content-Length: 0', 'User-Agent: webscheduler-shim');

if (function_exists('curl_init')) {
    $call = curl_init($url);
    curl_setopt_array($call, array(CURLOPT_CUSTOMREQUEST => 'POST', CURLOPT_HTTPHEADER => $headers,
        CURLOPT_RETURNTRANSFER => true, CURLOPT_TIMEOUT => $seconds));
    $answer = curl_exec($call);
    $problem = curl_error($call);
} else {
    $answer = @file_get_contents($url, false, stream_context_create(array('http' => array('method' => 'POST',
        'header' => implode("\r\n", $headers), 'timeout' => $seconds, 'ignore_errors' => true,
        'follow_location' => 0))));
    $problem = $answer === false ? 'no answer' : '';
}

$document = json_decode((string) $answer, true);
$accepted = is_array($document) && !empty($document['accepted']);
echo $accepted ? 'accepted' : 'not accepted: ' . ($problem ?: substr((string) $answer, 0, 200)), "\n";
exit($accepted ? 0 : 1);
